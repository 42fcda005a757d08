// Weights to start from that fit in part, fit nowhere or are damaged.
#include "training.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE(
    "weights to start from: all three lists are printed; weights that fit nowhere and damaged ones "
    "are errors") {
  Run r;
  const fs::path good = corpus().whole / "checkpoints" / train::checkpoint_name(all_steps) /
                        "model.safetensors",
                 init = r.scratch.path / "init.safetensors";
  r.config.model.d_e = 20;
  r.config.model.resnet_depths = {1, 1, 1, 1};
  r.config.model.dec_blocks = 2;
  REQUIRE(r.go(false, 1, good) == "");
  CHECK_MESSAGE(holds(r.printed, good.string()), r.printed);
  for (const std::string p :
       {"[1-9][0-9]* loaded\n +", "[1-9][0-9]* missing\n +decoder\\.blocks\\.1\\.",
        "[1-9][0-9]* unexpected\n +image\\.",
        "[1-9][0-9]* mismatched\n +[a-z_0-9.]+: expected \\([0-9, ]+\\), got"})
    CHECK_MESSAGE(says(r.printed, p), p, " is not said: ", r.printed);

  struct Row {
    std::string name, bytes;
    std::vector<std::string> patterns;
  };
  const std::string header = R"({"nobody":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                    whole = io::read_text(good);
  for (const Row& row : {Row{"no tensor fits",
                             std::string{static_cast<char>(header.size())} + std::string(7, '\0') +
                                 header + std::string(4, '\0'),
                             {"no tensor fits"}},
                         {"cut in half",
                          whole.substr(0, whole.size() / 2),
                          {"tensor '[a-z_0-9.]+'", "cut short"}}}) {
    INFO(row.name);
    Run other;
    write_bytes(init, row.bytes);
    check_error(other.go(false, 1, init), init, row.patterns);
    CHECK(!fs::exists(other.folder));
    CHECK(other.go(false, 1, good) == "");  // the run folder is still free
  }
  Run other;
  check_error(other.go(false, 1, r.scratch.path / "missing.safetensors"),
              r.scratch.path / "missing.safetensors", {"No such file"});
}
