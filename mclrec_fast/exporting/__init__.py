"""What leaves Python: item vectors, and the model from padded histories to its best items.

Every file is read back before it is kept, and compared with the model.
"""
