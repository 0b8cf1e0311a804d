// The Python module mclrec_fast._C. Importing it registers the CPU kernels (each op file does so at
// load time); the module itself only tells what was built, which instruction set is used, and the
// machine's multiply-add peak. No operator is called through it.
#include <Python.h>
#include <torch/headeronly/version.h>

#include <cstring>
#include <string>

#include "../cpu/fma_peak.h"
#include "../cpu/isa.h"
#include "../cpu/precision.h"
#include "../shared/encode.h"
#include "parallel.h"

namespace {

#if defined(__clang__)
#define MCLREC_COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define MCLREC_COMPILER "gcc " __VERSION__
#else
#define MCLREC_COMPILER "unknown"
#endif

// A list of the names of the instruction sets, of all or of those this CPU can run.
PyObject* isa_names(bool usable) {
  PyObject* names = PyList_New(0);
  for (const mclrec::IsaFacts& set : mclrec::kIsaSets) {
    if (names == nullptr || (usable && !set.supported())) continue;
    PyObject* name = PyUnicode_FromString(set.name);
    if (name == nullptr || PyList_Append(names, name) != 0) Py_CLEAR(names);
    Py_XDECREF(name);
  }
  return names;
}

// build_info() -> dict: compiler, torch, isa (compiled variants).
PyObject* build_info(PyObject*, PyObject*) {
  return Py_BuildValue("{s:s,s:s,s:N}", "compiler", MCLREC_COMPILER, "torch", TORCH_VERSION, "isa",
                       isa_names(false));
}

// isa() -> str: the instruction set the kernels use now.
PyObject* isa(PyObject*, PyObject*) {
  return PyUnicode_FromString(mclrec::isa_facts(mclrec::selected_isa()).name);
}

// usable_isa() -> list[str]: the sets this binary holds and this CPU can run.
PyObject* usable_isa(PyObject*, PyObject*) { return isa_names(true); }

// select_isa(name): switches all kernels; ValueError for an unknown or unusable name.
PyObject* select_isa(PyObject*, PyObject* argument) {
  const char* name = PyUnicode_AsUTF8AndSize(argument, nullptr);
  if (name == nullptr) return nullptr;
  std::string usable;
  for (int i = 0; i < mclrec::kIsaCount; ++i) {
    const mclrec::IsaFacts& set = mclrec::kIsaSets[i];
    if (set.supported()) usable += (usable.empty() ? "" : " or ") + std::string(set.name);
    if (std::strcmp(name, set.name) != 0) continue;
    if (mclrec::select_isa(mclrec::Isa{i})) Py_RETURN_NONE;
    return PyErr_Format(PyExc_ValueError, "instruction set %s cannot be used on this machine",
                        name);
  }
  return PyErr_Format(PyExc_ValueError, "unknown instruction set %s: use %s", name, usable.c_str());
}

// usable_precisions() -> list[str]: what products may be rounded to here, with the set in use.
PyObject* usable_precisions(PyObject*, PyObject*) {
  PyObject* names = PyList_New(0);
  for (const auto value :
       {mclrec::Precision::kFloat32, mclrec::Precision::kBf16x3, mclrec::Precision::kBf16}) {
    if (names == nullptr || !mclrec::precision_usable(value)) continue;
    PyObject* name = PyUnicode_FromString(mclrec::kPrecisionNames[static_cast<int>(value)]);
    if (name == nullptr || PyList_Append(names, name) != 0) Py_CLEAR(names);
    Py_XDECREF(name);
  }
  return names;
}

// set_precision(name): how products round from now on; ValueError for an unknown or unusable one.
PyObject* set_precision(PyObject*, PyObject* argument) {
  const char* name = PyUnicode_AsUTF8AndSize(argument, nullptr);
  if (name == nullptr) return nullptr;
  for (const auto value :
       {mclrec::Precision::kFloat32, mclrec::Precision::kBf16x3, mclrec::Precision::kBf16}) {
    if (std::strcmp(name, mclrec::kPrecisionNames[static_cast<int>(value)]) != 0) continue;
    if (mclrec::select_precision(value)) Py_RETURN_NONE;
    return PyErr_Format(PyExc_ValueError, "precision %s cannot be used on this machine", name);
  }
  return PyErr_Format(PyExc_ValueError, "unknown precision %s", name);
}

// allow_tiles(allowed): whether the next precision that is set may take AMX's tiles, see
// precision.h.
PyObject* allow_tiles(PyObject*, PyObject* allowed) {
  const int truth = PyObject_IsTrue(allowed);
  if (truth < 0) return nullptr;
  mclrec::allow_tiles(truth != 0);
  Py_RETURN_NONE;
}

// worker_count() -> int: threads the kernels use.
PyObject* worker_count(PyObject*, PyObject*) { return PyLong_FromLong(mclrec::worker_count()); }

// use_helpers(wanted) -> bool: which threads kernels take that this thread calls; what it was.
PyObject* use_helpers(PyObject*, PyObject* wanted) {
  const int truth = PyObject_IsTrue(wanted);
  if (truth < 0) return nullptr;
  return PyBool_FromLong(mclrec::use_helpers(truth != 0));
}

// fma_peak_gflops(threads, seconds) -> float, with the GIL released.
PyObject* fma_peak_gflops(PyObject*, PyObject* arguments) {
  int threads = 1;
  double seconds = 0.05;
  if (!PyArg_ParseTuple(arguments, "i|d", &threads, &seconds)) return nullptr;
  if (threads < 1 || threads > 4096 || !(seconds > 0.0 && seconds <= 60.0)) {
    return PyErr_Format(PyExc_ValueError, "threads must be 1..4096 and seconds in (0, 60]");
  }
  double peak = 0.0;
  Py_BEGIN_ALLOW_THREADS;
  peak = mclrec::fma_peak_gflops(threads, seconds);
  Py_END_ALLOW_THREADS;
  return PyFloat_FromDouble(peak);
}

// encode_weights() -> list[tuple[str, str]]: names and shapes of the encoder's weights in the order
// of the kernels: the embedding's, then one layer's.
PyObject* encode_weights(PyObject*, PyObject*) {
  PyObject* list = PyList_New(0);
  const auto append = [&](const mclrec::WeightOfEncode& weight) {
    PyObject* pair = list ? Py_BuildValue("(ss)", weight.name, weight.shape) : nullptr;
    if (pair == nullptr || PyList_Append(list, pair) != 0) Py_CLEAR(list);
    Py_XDECREF(pair);
  };
  for (const mclrec::WeightOfEncode& weight : mclrec::kEmbeddingWeightTable) append(weight);
  for (const mclrec::WeightOfEncode& weight : mclrec::kLayerWeightTable) append(weight);
  return list;
}

PyMethodDef methods[] = {
    {"build_info", build_info, METH_NOARGS, "What was built, by what, against which torch."},
    {"isa", isa, METH_NOARGS, "The instruction set the kernels use now."},
    {"usable_isa", usable_isa, METH_NOARGS, "The instruction sets this machine can run."},
    {"select_isa", select_isa, METH_O, "Switch the instruction set of every kernel."},
    {"encode_weights", encode_weights, METH_NOARGS, "Names and shapes of the encoder's weights."},
    {"usable_precisions", usable_precisions, METH_NOARGS, "What products may be rounded to here."},
    {"set_precision", set_precision, METH_O, "Switch the rounding of products."},
    {"allow_tiles", allow_tiles, METH_O, "Whether rounding may take AMX, where there is some."},
    {"worker_count", worker_count, METH_NOARGS, "Threads the kernels use."},
    {"use_helpers", use_helpers, METH_O, "Take the package's own threads, or torch's."},
    {"fma_peak_gflops", fma_peak_gflops, METH_VARARGS, "Register-only multiply-add peak, GFLOP/s."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "mclrec_fast._C",
                          "CPU kernels of mclrec_fast.",
                          -1,
                          methods,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&definition); }
