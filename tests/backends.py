"""Which backends the tests run on."""

BACKENDS = ["torch"]
