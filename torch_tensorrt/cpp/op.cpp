// Registers tensorrt::execute_engine, unless somebody (torch_tensorrt in Python) has done so before.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <memory>

#include "engine.h"

namespace torchtrt {
namespace {

std::vector<at::Tensor> execute_engine(at::TensorList inputs, const at::Tensor& engine, std::string_view spec) {
  return live_engine(engine, spec)->run(inputs);
}

// What implements the operator; empty when somebody else does.
std::unique_ptr<torch::Library>& kernels() {
  static auto* library = new std::unique_ptr<torch::Library>();
  return *library;
}

std::unique_ptr<torch::Library> fragment() {
  return std::make_unique<torch::Library>(torch::Library::FRAGMENT, "tensorrt", std::nullopt, __FILE__, __LINE__);
}

const bool registered = [] {
  if (c10::Dispatcher::singleton().findSchema({"tensorrt::execute_engine", ""})) {
    return false;
  }
  static auto* schema = fragment().release(); // stays for as long as the process does
  schema->def("execute_engine(Tensor[] inputs, Tensor engine, str spec) -> Tensor[]");
  kernels() = fragment();
  kernels()->impl("execute_engine", c10::DispatchKey::CompositeExplicitAutograd, TORCH_FN(execute_engine));
  kernels()->impl("execute_engine", c10::DispatchKey::Autograd, TORCH_FN(execute_engine)); // results have no history
  return true;
}();

} // namespace
} // namespace torchtrt

// Takes the kernels back, so that torch_tensorrt, imported later, can register its own, which run every backend's engines.
extern "C" void torchtrt_release_kernels() {
  torchtrt::kernels().reset();
}
