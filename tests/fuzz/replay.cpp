// Runs a fuzz target over every file of a folder, so that any compiler can replay a corpus. Files
// named valid_* must be read, files named broken_* must be refused with an Error; others (inputs
// that once crashed) need only end well.
#include <algorithm>
#include <exception>
#include <iterator>
#include <vector>

#include "target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  if (argc != 2 || !fs::is_directory(argv[1])) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(argv[1]))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  int refused = 0, wrong = 0;
  for (const auto& path : files) {
    const std::string name = path.filename().string();
    std::printf("%s: ", name.c_str());
    std::fflush(stdout);  // a crash leaves the file's name as the last line
    std::ifstream in(path, std::ios::binary);
    const std::vector<std::uint8_t> bytes((std::istreambuf_iterator<char>(in)), {});
    auto& refusal = hybridmed::fuzz::refusal;
    refusal.clear();
    std::string problem;
    try {
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      if (name.starts_with("valid_") && !refusal.empty()) problem = "refused, but valid";
      if (name.starts_with("broken_") && refusal.empty()) problem = "read, but broken";
    } catch (const std::exception& e) {
      problem = std::string("an exception that is not an Error: ") + e.what();
    }
    refused += !refusal.empty();
    wrong += !problem.empty();
    std::printf("%s%s\n", refusal.empty() ? "read" : refusal.c_str(),
                problem.empty() ? "" : (" -- WRONG: " + problem).c_str());
  }
  std::printf("%zu files, %d refused, %d wrong\n", files.size(), refused, wrong);
  if (files.empty()) std::fprintf(stderr, "%s: an empty corpus\n", argv[1]);
  return files.empty() || wrong ? 1 : 0;
}
