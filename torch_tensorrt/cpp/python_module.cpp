// The runtime as a Python extension module: a call costs a fraction of what torch.ops takes.
#include <Python.h>
#include <torch/csrc/autograd/python_variable.h>

#include <cstring>
#include <exception>
#include <new>

#include "engine.h"
#include "errors.h"
#include "sha256.h"

namespace {

using torchtrt::Engine;

// The classes of torch_tensorrt.spec.errors, given by `configure`; until then the nearest of Python's own.
PyObject* input_error = nullptr;
PyObject* file_format_error = nullptr;
PyObject* engine_not_runnable = nullptr;

PyObject* raise(PyObject* kind, PyObject* otherwise, const char* message) {
  PyObject* text = PyUnicode_DecodeUTF8(message, static_cast<Py_ssize_t>(std::strlen(message)), "replace");
  if (text != nullptr) {
    PyErr_SetObject(kind != nullptr ? kind : otherwise, text);
    Py_DECREF(text);
  }
  return nullptr;
}

// Runs `body` and turns what it throws into a Python error.
template <typename Body>
PyObject* guarded(Body body) {
  try {
    return body();
  } catch (const torchtrt::InputError& error) {
    return raise(input_error, PyExc_ValueError, error.what_without_backtrace());
  } catch (const torchtrt::FileFormatError& error) {
    return raise(file_format_error, PyExc_ValueError, error.what_without_backtrace());
  } catch (const torchtrt::EngineNotRunnable& error) {
    return raise(engine_not_runnable, PyExc_RuntimeError, error.what_without_backtrace());
  } catch (const c10::Error& error) {
    return raise(nullptr, PyExc_RuntimeError, error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  } catch (const std::exception& error) {
    return raise(nullptr, PyExc_RuntimeError, error.what());
  }
}

class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() {
    PyEval_RestoreThread(state_);
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

struct EngineObject {
  PyObject_HEAD
  std::shared_ptr<Engine> engine;
};

const at::Tensor* tensor_in(PyObject* object) {
  if (!THPVariable_Check(object)) {
    PyErr_Format(PyExc_TypeError, "a Tensor was expected, not %.80s", Py_TYPE(object)->tp_name);
    return nullptr;
  }
  return &THPVariable_Unpack(object);
}

// run(inputs: list[Tensor] | tuple[Tensor, ...]) -> tuple[Tensor, ...]
PyObject* engine_run(PyObject* self, PyObject* given) {
  PyObject* items = PySequence_Fast(given, "a list or tuple of tensors was expected");
  if (items == nullptr) {
    return nullptr;
  }
  PyObject* result = guarded([&]() -> PyObject* {
    const auto count = static_cast<size_t>(PySequence_Fast_GET_SIZE(items));
    torchtrt::Tensors inputs;
    inputs.reserve(count);
    for (size_t at = 0; at < count; ++at) {
      const at::Tensor* tensor = tensor_in(PySequence_Fast_GET_ITEM(items, static_cast<Py_ssize_t>(at)));
      if (tensor == nullptr) {
        return nullptr;
      }
      inputs.push_back(*tensor);
    }
    torchtrt::Tensors outputs;
    {
      const WithoutGil released;
      outputs = reinterpret_cast<EngineObject*>(self)->engine->run(inputs);
    }
    PyObject* results = PyTuple_New(static_cast<Py_ssize_t>(outputs.size()));
    for (size_t at = 0; results != nullptr && at < outputs.size(); ++at) {
      PyObject* tensor = THPVariable_Wrap(std::move(outputs[at]));
      if (tensor == nullptr) {
        Py_DECREF(results);
        return nullptr;
      }
      PyTuple_SET_ITEM(results, static_cast<Py_ssize_t>(at), tensor);
    }
    return results;
  });
  Py_DECREF(items);
  return result;
}

PyObject* engine_notice(PyObject* self, void*) {
  const std::string& text = reinterpret_cast<EngineObject*>(self)->engine->notice();
  return PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
}

void engine_free(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  {
    const WithoutGil released; // the SDK may wait for its threads
    reinterpret_cast<EngineObject*>(self)->engine.~shared_ptr();
  }
  type->tp_free(self);
  Py_DECREF(type);
}

PyMethodDef engine_methods[] = {
    {"run", engine_run, METH_O, "run(inputs) -> tuple of fresh tensors. Raises InputError."},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef engine_fields[] = {
    {"notice", engine_notice, nullptr, "What the user should know about how the engine came back, or ''.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot engine_slots[] = {
    {Py_tp_methods, engine_methods},
    {Py_tp_getset, engine_fields},
    {Py_tp_dealloc, reinterpret_cast<void*>(engine_free)},
    {Py_tp_doc, const_cast<char*>("A live engine of the C++ runtime.")},
    {0, nullptr}};
PyType_Spec engine_type_spec = {
    "torchtrt_python.Engine", sizeof(EngineObject), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, engine_slots};
PyObject* engine_type = nullptr;

// open(constant: Tensor, verify: bool) -> Engine
PyObject* open_engine(PyObject*, PyObject* arguments) {
  PyObject* constant = nullptr;
  int verify = 1;
  if (!PyArg_ParseTuple(arguments, "Op", &constant, &verify)) {
    return nullptr;
  }
  const at::Tensor* tensor = tensor_in(constant);
  if (tensor == nullptr) {
    return nullptr;
  }
  return guarded([&]() -> PyObject* {
    std::shared_ptr<Engine> engine;
    {
      const WithoutGil released;
      engine = torchtrt::open_engine(*tensor, std::nullopt, verify != 0);
    }
    auto* type = reinterpret_cast<PyTypeObject*>(engine_type);
    PyObject* object = type->tp_alloc(type, 0);
    if (object != nullptr) {
      new (&reinterpret_cast<EngineObject*>(object)->engine) std::shared_ptr<Engine>(std::move(engine));
    }
    return object;
  });
}

// configure(InputError, FileFormatError, EngineNotRunnable)
PyObject* configure(PyObject*, PyObject* arguments) {
  PyObject *input = nullptr, *file = nullptr, *runnable = nullptr;
  if (!PyArg_ParseTuple(arguments, "OOO", &input, &file, &runnable)) {
    return nullptr;
  }
  Py_INCREF(input), Py_INCREF(file), Py_INCREF(runnable);
  input_error = input, file_format_error = file, engine_not_runnable = runnable;
  Py_RETURN_NONE;
}

PyObject* list_backends(PyObject*, PyObject*) {
  return guarded([]() -> PyObject* {
    PyObject* formats = PyDict_New();
    for (const auto& [name, format] : torchtrt::backends()) {
      PyObject* number = PyLong_FromLongLong(format);
      if (formats == nullptr || number == nullptr || PyDict_SetItemString(formats, name.c_str(), number) != 0) {
        Py_XDECREF(formats), Py_XDECREF(number);
        return nullptr;
      }
      Py_DECREF(number);
    }
    return formats;
  });
}

// digests(data: bytes) -> (sha256, sha256 by the portable code); for tests.
PyObject* digests(PyObject*, PyObject* data) {
  char* bytes = nullptr;
  Py_ssize_t size = 0;
  if (PyBytes_AsStringAndSize(data, &bytes, &size) != 0) {
    return nullptr;
  }
  const auto* start = reinterpret_cast<const uint8_t*>(bytes);
  const std::string one = torchtrt::sha256(start, static_cast<size_t>(size));
  const std::string other = torchtrt::sha256_portable(start, static_cast<size_t>(size));
  return Py_BuildValue("(ss)", one.c_str(), other.c_str());
}

// evaluate(expr: str, symbols: dict[str, int]) -> int; for tests.
PyObject* evaluate(PyObject*, PyObject* arguments) {
  const char* text = nullptr;
  PyObject* given = nullptr;
  if (!PyArg_ParseTuple(arguments, "sO!", &text, &PyDict_Type, &given)) {
    return nullptr;
  }
  return guarded([&]() -> PyObject* {
    torchtrt::Symbols symbols;
    const torchtrt::SizeExpr expr(text, symbols);
    torchtrt::Values values(symbols.count());
    PyObject *name = nullptr, *value = nullptr;
    for (Py_ssize_t at = 0; PyDict_Next(given, &at, &name, &value);) {
      const size_t number = symbols.number(PyUnicode_AsUTF8(name));
      values.resize(symbols.count());
      values[number] = PyLong_AsLongLong(value);
    }
    return PyLong_FromLongLong(expr(values));
  });
}

PyMethodDef functions[] = {
    {"open", open_engine, METH_VARARGS, "open(constant, verify) -> Engine."},
    {"configure", configure, METH_VARARGS, "configure(InputError, FileFormatError, EngineNotRunnable)."},
    {"backends", list_backends, METH_NOARGS, "The backends whose engines this build runs -> the format of their payloads."},
    {"digests", digests, METH_O, "Both SHA-256 implementations."},
    {"evaluate", evaluate, METH_VARARGS, "The value of a size expression."},
    {nullptr, nullptr, 0, nullptr}};
PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "torchtrt_python", "Engines of torch_tensorrt in C++.", -1, functions,
    nullptr, nullptr, nullptr, nullptr};

} // namespace

PyMODINIT_FUNC PyInit_torchtrt_python() {
  engine_type = PyType_FromSpec(&engine_type_spec);
  return engine_type == nullptr ? nullptr : PyModule_Create(&definition);
}
