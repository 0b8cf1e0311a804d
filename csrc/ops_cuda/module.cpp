// The Python module mclrec_fast._C_cuda. Importing it registers the CUDA kernels (each op file does
// so at load time); the module itself tells what was built and holds the TF32 switch.
#include <Python.h>
#include <torch/headeronly/version.h>

#include "../cuda/status_cuda.h"

namespace mclrec {

bool tf32_allowed();
void allow_tf32(bool value);

}  // namespace mclrec

namespace {

// build_info() -> dict: torch and CUDA runtime the module was built with.
PyObject* build_info(PyObject*, PyObject*) {
  const int version = mclrec::cuda::runtime_version();
  return Py_BuildValue("{s:s,s:N}", "torch", TORCH_VERSION, "cuda",
                       PyUnicode_FromFormat("%d.%d", version / 1000, version % 1000 / 10));
}

// allow_tf32(bool): whether later launches of float32 products may use TF32.
PyObject* allow_tf32(PyObject*, PyObject* argument) {
  const int value = PyObject_IsTrue(argument);
  if (value < 0) return nullptr;
  mclrec::allow_tf32(value != 0);
  Py_RETURN_NONE;
}

// tf32_allowed() -> bool.
PyObject* tf32_allowed(PyObject*, PyObject*) { return PyBool_FromLong(mclrec::tf32_allowed()); }

PyMethodDef methods[] = {
    {"build_info", build_info, METH_NOARGS, "What was built, against which torch and CUDA."},
    {"allow_tf32", allow_tf32, METH_O, "Let float32 products round their operands to TF32."},
    {"tf32_allowed", tf32_allowed, METH_NOARGS, "Whether float32 products may use TF32."},
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
