"""The documented names of the options' defaults. What they are is declared in CompilationSettings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from torch_tensorrt.caching.disk import default_folder
from torch_tensorrt.dynamo.debug._Debugger import _default_folder
from torch_tensorrt.spec.enums import dtype
from torch_tensorrt.spec.errors import UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings

ASSUME_DYNAMIC_SHAPE_SUPPORT = CompilationSettings.assume_dynamic_shape_support
ATTN_BIAS_IS_CAUSAL = CompilationSettings.attn_bias_is_causal
AUTOCAST_CALIBRATION_DATALOADER = CompilationSettings.autocast_calibration_dataloader
AUTOCAST_EXCLUDED_NODES = CompilationSettings.autocast_excluded_nodes
AUTOCAST_EXCLUDED_OPS = CompilationSettings.autocast_excluded_ops
AUTOCAST_LOW_PRECISION_TYPE = CompilationSettings.autocast_low_precision_type
AUTOCAST_MAX_DEPTH_OF_REDUCTION = CompilationSettings.autocast_max_depth_of_reduction
AUTOCAST_MAX_OUTPUT_THRESHOLD = CompilationSettings.autocast_max_output_threshold
CACHE_BUILT_ENGINES = CompilationSettings.cache_built_engines
CPU_MEMORY_BUDGET = CompilationSettings.cpu_memory_budget
CUSTOM_ENGINE_CACHE = CompilationSettings.custom_engine_cache
DEBUG_LOGGING_DIR = str(_default_folder())
DECOMPOSE_ATTENTION = CompilationSettings.decompose_attention
DEVICE = CompilationSettings.device
DISABLED_CONSTANT_FOLD_EXCLUSIONS = CompilationSettings.disabled_constant_fold_exclusions
DISABLE_TF32 = CompilationSettings.disable_tf32
DLA_GLOBAL_DRAM_SIZE = CompilationSettings.dla_global_dram_size
DLA_LOCAL_DRAM_SIZE = CompilationSettings.dla_local_dram_size
DLA_SRAM_SIZE = CompilationSettings.dla_sram_size
DRYRUN = CompilationSettings.dryrun
DYNAMICALLY_ALLOCATE_RESOURCES = CompilationSettings.dynamically_allocate_resources
ENABLE_AUTOCAST = CompilationSettings.enable_autocast
ENABLE_CROSS_COMPILE_FOR_WINDOWS = CompilationSettings.enable_cross_compile_for_windows
ENABLE_EXPERIMENTAL_DECOMPOSITIONS = CompilationSettings.enable_experimental_decompositions
ENABLE_RESOURCE_PARTITIONING = CompilationSettings.enable_resource_partitioning
ENABLE_WEIGHT_STREAMING = CompilationSettings.enable_weight_streaming
ENGINE_CACHE_DIR = default_folder()
ENGINE_CACHE_SIZE = CompilationSettings.engine_cache_size
ENGINE_CAPABILITY = CompilationSettings.engine_capability
FALLBACK_DATA_DEPENDENT_OPS = CompilationSettings.fallback_data_dependent_ops
HARDWARE_COMPATIBLE = CompilationSettings.hardware_compatible
IMMUTABLE_WEIGHTS = CompilationSettings.immutable_weights
L2_LIMIT_FOR_TILING = CompilationSettings.l2_limit_for_tiling
LAZY_ENGINE_INIT = CompilationSettings.lazy_engine_init
MAX_AUX_STREAMS = CompilationSettings.max_aux_streams
MIN_BLOCK_SIZE = CompilationSettings.min_block_size
NUM_AVG_TIMING_ITERS = CompilationSettings.num_avg_timing_iters
OFFLOAD_MODULE_TO_CPU = CompilationSettings.offload_module_to_cpu
OPTIMIZATION_LEVEL = CompilationSettings.optimization_level
PASS_THROUGH_BUILD_FAILURES = CompilationSettings.pass_through_build_failures
REFIT_IDENTICAL_ENGINE_WEIGHTS = CompilationSettings.refit_identical_engine_weights
REQUIRE_FULL_COMPILATION = CompilationSettings.require_full_compilation
REUSE_CACHED_ENGINES = CompilationSettings.reuse_cached_engines
SPARSE_WEIGHTS = CompilationSettings.sparse_weights
STRIP_ENGINE_WEIGHTS = CompilationSettings.strip_engine_weights
SUPPORTED_KERNEL_PRECISIONS = frozenset({dtype.f32, dtype.f16, dtype.bf16, dtype.i8, dtype.f8, dtype.f4})
TILING_OPTIMIZATION_LEVEL = CompilationSettings.tiling_optimization_level
TIMING_CACHE_PATH = CompilationSettings.timing_cache_path
TRUNCATE_DOUBLE = CompilationSettings.truncate_double
USE_COMPLEX_DECOMPOSITION = CompilationSettings.use_complex_decomposition
USE_DISTRIBUTED_MODE_TRACE = CompilationSettings.use_distributed_mode_trace
USE_FAST_PARTITIONER = CompilationSettings.use_fast_partitioner
USE_FP32_ACC = CompilationSettings.use_fp32_acc
VERSION_COMPATIBLE = CompilationSettings.version_compatible
WORKSPACE_SIZE = CompilationSettings.workspace_size

_ABSENT: Mapping[str, str] = {
    "CUDA_GRAPH_STRATEGY": "engines don't run in CUDA graphs in this version",
    "DYNAMIC_SHAPES_KERNEL_SPECIALIZATION_STRATEGY": "there is one way of choosing kernels for sizes that vary",
    "RUNTIME_CACHE_PATH": "the file is in the user's cache folder, and runtime.runtime_cache(module, path) names another",
}


def __getattr__(name: str) -> NoReturn:
    if name in _ABSENT:
        raise UnsupportedError(f"torch_tensorrt.dynamo._defaults.{name} is not here: {_ABSENT[name]}.")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
