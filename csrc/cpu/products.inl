// Products of the encoder (blocks of activations times packed weights, the gradients of weights)
// and of the catalogue's softmax where it rounds. Which of the two files is compiled is a matter of
// precision (precision.h); both have a class Products with the same functions:
//
//   panels_size, pack, pack_each    the right factor of a product, once per call
//   left                            a block of rows as the left factor of a product
//   turned, paired                  two blocks of rows as the factors of a weight's gradient
//   multiply, multiply_turned       the products
//   Use                             while one lives, the thread may multiply
//   Room                            while one lives, its factors do; made in the worker's scratch
//
// No #include and no namespace here: after gemm_tile.inl.
#if MCLREC_ROUNDS
#include "products_amx.inl"
#else
#include "products_fma.inl"
#endif
