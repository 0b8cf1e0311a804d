// The Python module mclrec_fast._C_cuda. Importing it registers the CUDA kernels (each op file does
// so at load time); the module itself tells what was built and holds the switch of the products'
// precision.
#include <Python.h>
#include <torch/headeronly/version.h>

#include "../cuda/status_cuda.h"
#include "precision.h"

namespace {

// build_info() -> dict: torch and CUDA runtime the module was built with.
PyObject* build_info(PyObject*, PyObject*) {
  const int version = mclrec::cuda::runtime_version();
  return Py_BuildValue("{s:s,s:N}", "torch", TORCH_VERSION, "cuda",
                       PyUnicode_FromFormat("%d.%d", version / 1000, version % 1000 / 10));
}

// In the order of cuda::Precision.
const char* const precisions[] = {"float32", "tf32", "bf16"};

// set_precision(word): what later launches make of the factors of float32 products.
PyObject* set_precision(PyObject*, PyObject* argument) {
  for (int i = 0; i < 3 && PyUnicode_Check(argument); ++i) {
    if (PyUnicode_CompareWithASCIIString(argument, precisions[i]) != 0) continue;
    mclrec::set_precision(static_cast<mclrec::cuda::Precision>(i));
    Py_RETURN_NONE;
  }
  return PyErr_Format(PyExc_ValueError, "precision must be float32, tf32 or bf16, got %R",
                      argument);
}

// precision() -> word.
PyObject* precision(PyObject*, PyObject*) {
  return PyUnicode_FromString(precisions[static_cast<int>(mclrec::precision())]);
}

PyMethodDef methods[] = {
    {"build_info", build_info, METH_NOARGS, "What was built, against which torch and CUDA."},
    {"set_precision", set_precision, METH_O, "Round the factors of float32 products to this."},
    {"precision", precision, METH_NOARGS, "What the factors of float32 products are rounded to."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "mclrec_fast._C_cuda",
                          "CUDA kernels of mclrec_fast.",
                          -1,
                          methods,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__C_cuda() { return PyModule_Create(&definition); }
