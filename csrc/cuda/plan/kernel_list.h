// Every kernel, in one place: its argument, its launch bounds, its header, and its instantiations. From this list come
// the sources that nvcc and NVRTC compile, the symbols that the launcher looks up, and the files that hold them.
// Host only; pure functions.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "../backward_rows_plan.h"
#include "../plan.h"
#include "../sort_params.h"

namespace bbs::cuda {

enum class KernelName : uint8_t {
  prepare_rows,
  order_rows,
  cos_lse_sweep,
  merge_splits,
  merge_margin,
  row_scale,
  backward_pairs,
  count_digits,
  scan_digits,
  scatter_digits,
  gather_pairs,
  find_baskets,
  coefficients,
  normalize_classes,
  gradient_rows,
  gradient_classes,
  finish_rows,
  count  // how many there are
};

// What an instantiation depends on: nothing; the operand type; that and how w is stored; and how tiles are loaded.
enum class KernelTypes : uint8_t { none, operand, tile, lanes, sweep };

struct KernelEntry {
  KernelName name;
  const char* text;
  const char* header;
  const char* params;
  int32_t threads;     // of a block: every launch's, and the first of __launch_bounds__
  const char* blocks;  // of a multiprocessor at least, the second of __launch_bounds__, in the header's words; or ""
  KernelTypes types;
  bool forward;  // launched by a forward; a backward has prepare_rows and order_rows too
};

constexpr std::array<KernelEntry, static_cast<size_t>(KernelName::count)> kKernelList = {{
    // Four blocks of a multiprocessor are enough; ptxas would aim at five on sm_120, and spill for it.
    {KernelName::prepare_rows, "prepare_rows", "prepare_rows.cuh", "ForwardParams", kPrepareThreads, "4",
     KernelTypes::tile, true},
    {KernelName::order_rows, "order_rows", "order_rows.cuh", "ForwardParams", kPrepareThreads, "", KernelTypes::none,
     true},
    {KernelName::cos_lse_sweep, "cos_lse_sweep", "cos_lse_sweep.cuh", "ForwardParams", kThreads, "", KernelTypes::sweep,
     true},
    {KernelName::merge_splits, "merge_splits", "merge_splits.cuh", "ForwardParams", kMergeThreads, "kMergeBlocks",
     KernelTypes::none, true},
    {KernelName::merge_margin, "merge_margin", "merge_margin.cuh", "MarginParams", kMergeThreads, "kMergeBlocks",
     KernelTypes::none, true},
    {KernelName::row_scale, "row_scale", "row_gradient.cuh", "BackwardRowParams", kRowScaleThreads, "",
     KernelTypes::none, false},
    {KernelName::backward_pairs, "backward_pairs", "backward_pairs.cuh", "BackwardRowParams", kPairsThreads, "",
     KernelTypes::lanes, false},
    {KernelName::count_digits, "count_digits", "sort_pairs.cuh", "SortPass", kSortThreads, "", KernelTypes::none,
     false},
    {KernelName::scan_digits, "scan_digits", "sort_pairs.cuh", "SortPass", kSortThreads, "", KernelTypes::none, false},
    {KernelName::scatter_digits, "scatter_digits", "sort_pairs.cuh", "SortPass", kSortThreads, "", KernelTypes::none,
     false},
    {KernelName::gather_pairs, "gather_pairs", "sort_pairs.cuh", "GatherPairs", kSortThreads, "", KernelTypes::none,
     false},
    {KernelName::find_baskets, "find_baskets", "dense_tiles.cuh", "DenseParams", kPrepareThreads, "", KernelTypes::none,
     false},
    {KernelName::coefficients, "coefficients", "coefficients.cuh", "DenseParams", kThreads, "", KernelTypes::sweep,
     false},
    {KernelName::normalize_classes, "normalize_classes", "normalize_classes.cuh", "DenseParams", kThreads, "",
     KernelTypes::tile, false},
    {KernelName::gradient_rows, "gradient_rows", "gradient_rows.cuh", "DenseParams", kThreads, "", KernelTypes::operand,
     false},
    {KernelName::gradient_classes, "gradient_classes", "gradient_classes.cuh", "DenseParams", kThreads, "",
     KernelTypes::tile, false},
    {KernelName::finish_rows, "finish_rows", "finish_rows.cuh", "BackwardRowParams", kFinishThreads, "",
     KernelTypes::operand, false},
}};

constexpr const KernelEntry& entry_of(KernelName name) { return kKernelList[static_cast<size_t>(name)]; }

// One instantiation. Members that the kernel does not depend on are 0, so that equal kernels compare equal.
struct Kernel {
  KernelName name;
  int32_t operand;  // Operand
  int32_t w_bytes;
  int32_t w_transposed, resident, vectors, subcenters;  // 0 or 1; subcenters: several to a class
  int32_t lanes;                                        // lane_values()
};

// Distinct for distinct kernels: a launch is looked up by it.
constexpr uint32_t id_of(const Kernel& k) {
  return static_cast<uint32_t>(k.name) | static_cast<uint32_t>(k.operand) << 8 |
         static_cast<uint32_t>(k.w_bytes) << 12 | static_cast<uint32_t>(k.w_transposed) << 16 |
         static_cast<uint32_t>(k.resident) << 17 | static_cast<uint32_t>(k.vectors) << 18 |
         static_cast<uint32_t>(k.subcenters) << 19 | static_cast<uint32_t>(k.lanes) << 20;
}

// The instantiation of `name` that a problem needs. `resident`: whether the plan keeps x in shared memory.
// Not built: a resident x with element-wise loads or several centres to a class (plan_forward never asks for it).
constexpr Kernel kernel_of(KernelName name, const ForwardShape& s, bool resident = false) {
  const KernelTypes types = entry_of(name).types;
  Kernel k{name, 0, 0, 0, 0, 0, 0, 0};
  if (types == KernelTypes::none) return k;
  k.operand = s.operand;
  if (types == KernelTypes::operand) return k;
  k.w_bytes = s.w_bytes;
  k.w_transposed = s.w_transposed != 0;
  if (types == KernelTypes::lanes) k.lanes = lane_values(s.dim, s.w_transposed != 0);
  if (types != KernelTypes::sweep) return k;
  k.subcenters = s.subcenters > 1;
  k.resident = resident;
  k.vectors = s.vectors != 0;
  return k;
}

struct OperandText {
  const char* symbol;
  const char* type;
};
constexpr OperandText operand_text(int32_t operand) {
  constexpr OperandText texts[] = {{"bf16", "Bf16"}, {"fp16", "Fp16"}, {"tf32", "Tf32"}, {"fp32", "Fp32"}};
  return texts[operand];
}

// "bf16", or "bf16_fp32w" where 16-bit rows meet fp32 centres.
inline std::string types_text(int32_t operand, int32_t w_bytes) {
  return std::string(operand_text(operand).symbol) + (operand_bytes(operand) < w_bytes ? "_fp32w" : "");
}

// The extern "C" name in every image.
inline std::string symbol_of(const Kernel& k) {
  const KernelEntry& entry = entry_of(k.name);
  std::string symbol = std::string("bbs_") + entry.text;
  if (entry.types == KernelTypes::none) return symbol;
  if (entry.types == KernelTypes::operand) return symbol + "_" + operand_text(k.operand).symbol;
  symbol += "_" + types_text(k.operand, k.w_bytes) + (k.w_transposed ? "_columns" : "_rows");
  if (entry.types == KernelTypes::lanes) symbol += "_" + std::to_string(k.lanes);
  if (entry.types == KernelTypes::sweep)
    symbol += std::string(k.subcenters ? "_subcenters"
                          : k.resident ? "_resident"
                                       : "_streaming") +
              (k.vectors ? "_vectors" : "_elements");
  return symbol;
}

// The instantiation in C++, without the namespace.
inline std::string template_of(const Kernel& k) {
  const KernelEntry& entry = entry_of(k.name);
  const auto flag = [](int32_t value) { return std::string(value ? "true" : "false"); };
  const std::string type = operand_text(k.operand).type;
  const std::string tile = "TileTypes<" + type + ", " + std::to_string(k.w_bytes) + ", " + flag(k.w_transposed) + ">";
  const std::string name = entry.text;
  switch (entry.types) {
    case KernelTypes::none: return name;
    case KernelTypes::operand:
      return name + (k.name == KernelName::gradient_rows ? "<GemmTypes<" + type + ">>" : "<" + type + ">");
    case KernelTypes::tile: return name + "<" + tile + ">";
    case KernelTypes::lanes: return name + "<" + tile + ", " + std::to_string(k.lanes) + ">";
    case KernelTypes::sweep: break;
  }
  return name + (k.subcenters ? "<SubcenterTypes<" + tile + ", " + flag(k.vectors) + ">>"
                              : "<SweepTypes<" + tile + ", " + flag(k.resident) + ", " + flag(k.vectors) + ">>");
}

// A translation unit with these kernels, for nvcc and NVRTC alike.
inline std::string source_of(const std::vector<Kernel>& kernels) {
  std::string headers, entries;
  for (const Kernel& k : kernels) {
    const KernelEntry& entry = entry_of(k.name);
    const std::string line = std::string("#include \"") + entry.header + "\"\n";
    if (headers.find(line) == std::string::npos) headers += line;
    const std::string blocks = *entry.blocks ? std::string(", ") + entry.blocks : "";
    entries += "extern \"C\" __global__ void __launch_bounds__(" + std::to_string(entry.threads) + blocks + ") " +
               symbol_of(k) + "(const __grid_constant__ " + entry.params + " p) {\n  " + template_of(k) + "(p);\n}\n";
  }
  return headers + "using namespace bbs::cuda;\n" + entries;
}

// The file that holds a kernel, without its target: those of one pass and one pair of types, so that a step loads few.
inline std::string family_of(const Kernel& k) {
  const KernelEntry& entry = entry_of(k.name);
  if (entry.types == KernelTypes::none) return "common";
  const int32_t w_bytes = entry.types == KernelTypes::operand ? operand_bytes(k.operand) : k.w_bytes;
  return (entry.forward ? "forward_" : "backward_") + types_text(k.operand, w_bytes);
}

// Every instantiation that kernel_of() can give. Not built: fp64, and a 16-bit w beside an fp32 x.
inline std::vector<Kernel> all_kernels() {
  std::vector<Kernel> all;
  for (const KernelEntry& entry : kKernelList) {
    if (entry.types == KernelTypes::none) {
      all.push_back(kernel_of(entry.name, ForwardShape{}));
      continue;
    }
    for (const int32_t operand : {Operand::bf16, Operand::fp16, Operand::tf32, Operand::fp32}) {
      ForwardShape s{};
      s.operand = operand;
      if (entry.types == KernelTypes::operand) {
        all.push_back(kernel_of(entry.name, s));
        continue;
      }
      for (s.w_bytes = operand_bytes(operand); s.w_bytes <= 4; s.w_bytes += 2)
        for (const int32_t transposed : {0, 1}) {
          s.w_transposed = transposed;
          if (entry.types == KernelTypes::tile) all.push_back(kernel_of(entry.name, s));
          if (entry.types == KernelTypes::lanes)
            for (const int32_t dim : {1, 2048}) {
              s.dim = dim;
              all.push_back(kernel_of(entry.name, s));
            }
          if (entry.types == KernelTypes::sweep)
            for (const int32_t subcenters : {1, 2})
              for (const int32_t vectors : {1, 0}) {
                s.subcenters = subcenters;
                s.vectors = vectors;
                all.push_back(kernel_of(entry.name, s, false));
                if (entry.forward && vectors && subcenters == 1) all.push_back(kernel_of(entry.name, s, true));
              }
        }
    }
  }
  return all;
}

}  // namespace bbs::cuda
