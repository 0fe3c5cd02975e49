#include "input_check.h"

#include <sstream>

#include "errors.h"

namespace torchtrt {
namespace {

std::string owner(const EngineSpec& spec) {
  return "Engine '" + spec.name + "'";
}

std::string range(const Size& size) {
  std::ostringstream text;
  if (size.expr) {
    text << size.min << "..";
    if (size.max) {
      text << *size.max;
    }
  } else {
    text << size.fixed;
  }
  return text.str();
}

std::string ranges(const TensorSpec& spec) {
  std::string text = "(";
  for (const Size& size : spec.shape) {
    text += (text.size() > 1 ? ", " : "") + range(size);
  }
  return text + ")";
}

std::string layout_name(c10::Layout layout) {
  switch (layout) {
    case c10::kSparse:
      return "torch.sparse_coo";
    case c10::kSparseCsr:
      return "torch.sparse_csr";
    case c10::kSparseCsc:
      return "torch.sparse_csc";
    case c10::kSparseBsr:
      return "torch.sparse_bsr";
    case c10::kSparseBsc:
      return "torch.sparse_bsc";
    case c10::kMkldnn:
      return "torch._mkldnn";
    default:
      return "torch.jagged";
  }
}

// Kept out of the way of the code that runs when all is well.
[[noreturn]] void refuse_kind(const EngineSpec& engine, const TensorSpec& spec, const at::Tensor& tensor) {
  const std::string what = owner(engine) + ": input '" + spec.name + "'";
  if (!tensor.defined()) {
    fail<InputError>(what, " is not a tensor.");
  }
  if (!is_plain(tensor)) {
    fail<InputError>(what, " is a tensor subclass that handles its own operations; give a plain tensor.");
  }
  if (tensor.scalar_type() != spec.dtype) {
    const std::string wanted = "torch." + dtype_name(spec.dtype);
    fail<InputError>(
        what, " is torch.", dtype_name(tensor.scalar_type()), ", but was compiled for ", wanted,
        "; convert it with .to(", wanted, ").");
  }
  if (tensor.device().type() != spec.device) {
    const std::string wanted = c10::DeviceTypeName(spec.device, true);
    fail<InputError>(
        what, " is on ", tensor.device().str(), ", but was compiled for ", wanted, "; move it with .to('", wanted,
        "').");
  }
  if (tensor.layout() != c10::kStrided) {
    fail<InputError>(what, " has layout ", layout_name(tensor.layout()), "; a dense tensor is needed (.to_dense()).");
  }
  std::string sizes;
  for (const int64_t size : tensor.sizes()) {
    sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
  }
  fail<InputError>(
      what, " has ", tensor.dim(), " dimensions (", sizes, tensor.dim() == 1 ? ",)" : ")", ", but was compiled for ", spec.shape.size(), ": ",
      ranges(spec), ".");
}

[[noreturn]] void refuse_size(const EngineSpec& engine, const TensorSpec& spec, size_t dim, int64_t given) {
  const Size& size = spec.shape[dim];
  std::ostringstream where;
  where << owner(engine) << ": input '" << spec.name << "' has size " << given << " in dimension " << dim;
  if (size.expr) {
    fail<InputError>(
        where.str(), ", but was compiled for the range ", size.min, " to ",
        size.max ? std::to_string(*size.max) : "any",
        "; compile with an Input whose min_shape and max_shape include it.");
  }
  fail<InputError>(
      where.str(), ", but was compiled for exactly ", size.fixed, " there (", ranges(spec),
      "); compile with an Input whose size varies.");
}

[[noreturn]] void refuse_disagreement(
    const EngineSpec& engine, size_t input, size_t dim, int64_t given, int64_t needed) {
  const auto& used = engine.inputs[input].shape[dim].expr->symbols_used();
  std::string others;
  for (size_t other = 0; other < engine.inputs.size(); ++other) {
    for (size_t at = 0; at < engine.inputs[other].shape.size(); ++at) {
      const auto& expr = engine.inputs[other].shape[at].expr;
      bool shared = false;
      for (const size_t symbol : used) {
        shared = shared || (expr && expr->symbols_used().count(symbol) > 0);
      }
      if (shared && (other != input || at != dim)) {
        others += (others.empty() ? "'" : ", '") + engine.inputs[other].name + "' dimension " + std::to_string(at);
      }
    }
  }
  fail<InputError>(
      owner(engine), ": input '", engine.inputs[input].name, "' has size ", given, " in dimension ", dim,
      ", but it must be ", needed, " to fit ", others.empty() ? "the other inputs" : others,
      ": the model needs these sizes to agree.");
}

} // namespace

void check_inputs(const EngineSpec& spec, c10::ArrayRef<at::Tensor> inputs) {
  if (inputs.size() != spec.inputs.size()) {
    fail<InputError>(owner(spec), " takes ", spec.inputs.size(), " tensors; ", inputs.size(), " were given.");
  }
  for (size_t input = 0; input < inputs.size(); ++input) {
    const TensorSpec& wanted = spec.inputs[input];
    const at::Tensor& tensor = inputs[input];
    if (!tensor.defined() || !is_plain(tensor) || tensor.scalar_type() != wanted.dtype ||
        tensor.device().type() != wanted.device || tensor.layout() != c10::kStrided ||
        tensor.dim() != static_cast<int64_t>(wanted.shape.size())) {
      refuse_kind(spec, wanted, tensor);
    }
    const c10::IntArrayRef sizes = tensor.sizes();
    for (size_t dim = 0; dim < sizes.size(); ++dim) {
      const Size& size = wanted.shape[dim];
      if (size.expr ? sizes[dim] < size.min || (size.max && sizes[dim] > *size.max) : sizes[dim] != size.fixed) {
        refuse_size(spec, wanted, dim, sizes[dim]);
      }
    }
  }
}

Values check_agreement(const EngineSpec& spec, c10::ArrayRef<at::Tensor> inputs) {
  std::vector<c10::IntArrayRef> shapes;
  for (const at::Tensor& tensor : inputs) {
    shapes.push_back(tensor.sizes());
  }
  Values values = spec.solve(shapes);
  for (size_t input = 0; input < inputs.size(); ++input) {
    for (size_t dim = 0; dim < shapes[input].size(); ++dim) {
      const auto& expr = spec.inputs[input].shape[dim].expr;
      if (const int64_t needed = expr ? (*expr)(values) : shapes[input][dim]; needed != shapes[input][dim]) {
        refuse_disagreement(spec, input, dim, shapes[input][dim], needed);
      }
    }
  }
  return values;
}

} // namespace torchtrt
