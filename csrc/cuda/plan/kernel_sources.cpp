// Writes the CUDA source of one family of kernels: kernel_sources FAMILY FILE. A program of the build.
// A file that holds the text already is left alone, so that a change of a plan compiles no kernel again.
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "kernel_list.h"

int main(int count, char** words) {
  using namespace bbs::cuda;
  if (count != 3) return std::cerr << "usage: kernel_sources FAMILY FILE\n", 2;
  std::vector<Kernel> kernels;
  for (const Kernel& kernel : all_kernels())
    if (family_of(kernel) == words[1]) kernels.push_back(kernel);
  if (kernels.empty()) return std::cerr << "kernel_sources: no kernel is of the family " << words[1] << '\n', 1;
  const std::string source = source_of(kernels);
  std::ifstream before(words[2], std::ios::binary);
  if (before && std::string(std::istreambuf_iterator<char>(before), {}) == source) return 0;
  std::ofstream file(words[2], std::ios::binary);
  file << source;
  file.close();
  if (!file) return std::cerr << "kernel_sources: cannot write " << words[2] << '\n', 1;
}
