// Writes the CUDA source of one family of kernels: kernel_sources FAMILY FILE. A program of the build.
#include <cstdio>
#include <string>

#include "kernel_list.h"

int main(int count, char** words) {
  using namespace bbs::cuda;
  if (count != 3) return std::fprintf(stderr, "usage: kernel_sources FAMILY FILE\n"), 2;
  std::vector<Kernel> kernels;
  for (const Kernel& kernel : all_kernels())
    if (family_of(kernel) == words[1]) kernels.push_back(kernel);
  if (kernels.empty()) return std::fprintf(stderr, "kernel_sources: no kernel is of the family %s\n", words[1]), 1;
  const std::string source = source_of(kernels);
  std::FILE* file = std::fopen(words[2], "w");
  if (!file) return std::perror(words[2]), 1;
  const bool whole = std::fwrite(source.data(), 1, source.size(), file) == source.size();
  if (std::fclose(file) != 0 || !whole) return std::perror(words[2]), 1;
}
