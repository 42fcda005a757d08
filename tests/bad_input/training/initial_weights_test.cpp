// Weights to start from that fit in part, fit nowhere or are damaged.
#include "training.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE(
    "weights to start from: what does not fit is said part by part; weights that fit nowhere and "
    "damaged ones "
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
       {"weights +[1-9][0-9]* tensors from", "not in that file, .*: decoder [1-9]",
        "of another shape in that file, .*: aggregator [1-9]", "and not used: .*image [1-9]"})
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

TEST_CASE("weights to start from: a run folder gives its best; another vocabulary is refused") {
  Run r;
  REQUIRE(r.go(false, 1, corpus().whole) == "");
  CHECK_MESSAGE(holds(r.printed, train::best_weights(corpus().whole, 2).string()), r.printed);
  Run other;
  const std::string words = io::read_text(corpus().whole / "vocab.txt");
  const auto last = words.rfind('\n', words.size() - 2), before = words.rfind('\n', last - 1);
  const std::string one = words.substr(before + 1, last - before), two = words.substr(last + 1);
  const auto file = other.scratch.path / "shuffled.txt";
  write_bytes(file, words.substr(0, before + 1) + two + one);
  other.config.vocab_file = file.string();
  const std::string e = other.go(false, 1, corpus().whole);
  CHECK_MESSAGE(holds(e, "another vocabulary"), e);
  CHECK_MESSAGE(holds(e, "--set vocab_file="), e);
  CHECK(other.go(false, 1) == "");  // the run folder is still free
  Run empty;
  check_error(empty.go(false, 1, empty.scratch.path), empty.scratch.path, {"without weights"});
}
