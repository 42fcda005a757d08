// Damaged checkpoints: the error says what and where, and the checkpoint before goes on.
#include "hybridmed/backend/reference/backend.hpp"
#include "training.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using B = Reference;

TEST_CASE("a damaged checkpoint is refused and changes nothing; the one before it goes on") {
  struct Row {
    std::string name, file;
    std::function<void(const fs::path&)> damage;
    std::vector<std::string> patterns;
  };
  const auto half = [](const fs::path& p) { fs::resize_file(p, fs::file_size(p) / 2); };
  const auto to = [](std::uintmax_t n) {
    return [=](const fs::path& p) { fs::resize_file(p, n); };
  };
  const auto as = [](const std::string& text) {
    return [=](const fs::path& p) { write_bytes(p, text); };
  };
  const auto edited = [](const char* key, const io::Json& value) {
    return [=](const fs::path& p) {
      io::Json j = io::read_json(p);
      if (value.is_null())
        j.erase(key);
      else
        j[key] = value;
      write_bytes(p, j.dump(1));
    };
  };
  const auto gone = [](const fs::path& p) { fs::remove(p); };
  const std::string tensor = "tensor '[a-z_0-9.]+'";
  for (const Row& row : {
           Row{"weights cut in half", "model.safetensors", half, {tensor, "cut short"}},
           {"weights cut inside the header",
            "model.safetensors",
            to(100),
            {"only 92 follow", "cut short"}},
           {"weights cut to nothing", "model.safetensors", to(0), {"offset 0", "ends"}},
           {"no weights", "model.safetensors", gone, {"No such file"}},
           {"teacher cut in half", "teacher.safetensors", half, {tensor, "cut short"}},
           {"no teacher", "teacher.safetensors", gone, {"No such file"}},
           {"moments cut in half", "optimizer.safetensors", half, {tensor, "cut short"}},
           {"moments cut inside the header",
            "optimizer.safetensors",
            to(100),
            {"only 92 follow", "cut short"}},
           {"no moments", "optimizer.safetensors", gone, {"No such file"}},
           {"state cut in half",
            "state.json",
            half,
            {"line [0-9]+, column [0-9]+", "unexpected|missing"}},
           {"state cut to nothing",
            "state.json",
            to(0),
            {"line 1, column 1", "unexpected end of input"}},
           {"no state", "state.json", gone, {"No such file"}},
           {"a state that says nothing", "state.json", as("{}"), {"missing", "'[a-z_]+'"}},
           {"a state without its step",
            "state.json",
            edited("step", nullptr),
            {"missing", "'step'"}},
           {"a state of stage 3", "state.json", edited("stage", 3), {"'?stage'?", "\\b3\\b"}},
           {"a state with a step that is a text",
            "state.json",
            edited("step", "eight"),
            {"'step'", "whole number", "eight"}},
           {"a state with an unknown key",
            "state.json",
            edited("stepp", 8),
            {"'stepp'", "unknown key"}},
       }) {
    INFO(row.name);
    Run r;
    r.start(8);
    REQUIRE(fs::exists(r.checkpoint(7)));
    row.damage(r.checkpoint(8) / row.file);
    const Snapshot before = snapshot(r.folder);
    check_error(r.go(true, 9), r.checkpoint(8) / row.file, row.patterns);
    nothing_changed(before, snapshot(r.folder));
    fs::remove_all(r.checkpoint(8));
    r.goes_on();
  }
}

TEST_CASE("a damaged checkpoint is found before older ones are given up") {
  Run r;
  r.start(8);
  fs::resize_file(r.checkpoint(8) / "model.safetensors", 1000);
  const Snapshot before = snapshot(r.folder);
  r.config.keep_checkpoints = 1;
  check_error(r.go(true, 9), r.checkpoint(8) / "model.safetensors", {"cut short"});
  nothing_changed(before, snapshot(r.folder));
  fs::remove_all(r.checkpoint(8));
  REQUIRE(fs::exists(r.checkpoint(7)));
  r.goes_on();
}

TEST_CASE(
    "a state that the schedule cannot have reached, a flipped bit and another vocabulary are "
    "refused at once") {
  struct Row {
    const char* key;
    io::Json value;
  };
  for (const Row& row : {Row{"sums", io::Json::array()},
                         {"sums", io::Json{1.0}},
                         {"sums", io::Json{1, 2, 3, 4, 5, 6, 7, 8, 9}},
                         {"batch", 4},
                         {"batch", 1000000000},
                         {"batch", -1},
                         {"epoch", 2},
                         {"epoch", 7},
                         {"epoch", 9000000000000000000},
                         {"epoch", -1},
                         {"stage_step", 1},
                         {"stage_step", 100},
                         {"step", 1},
                         {"stage", 3},
                         {"stage", 0},
                         {"best_epoch", 9},
                         {"best_epoch", -2},
                         {"bad_epochs", 5},
                         {"bad_epochs", -1},
                         {"finished", true},
                         {"best", 1e-3},
                         {"data", 1},
                         {"vocabulary", 1}}) {
    INFO(row.key, " = ", row.value.dump());
    Run r;
    r.start(4);  // epoch 2, batch 1 of stage 1
    const fs::path state = r.checkpoint(4) / "state.json";
    io::Json j = io::read_json(state);
    j[row.key] = row.value;
    write_bytes(state, j.dump(1));
    const std::string e = r.go(true, -1);
    CHECK_MESSAGE(e.starts_with("[hybridmed."), e);
    CHECK_MESSAGE(holds(e, state.string()), e);
    if (std::string(row.key) != "best" && std::string(row.key) != "data" &&
        std::string(row.key) != "vocabulary")
      CHECK_MESSAGE(holds(e, "'" + std::string(row.key)), e);
  }
  for (const char* file :
       {"model.safetensors", "optimizer.safetensors", "state.json", "config.json"}) {
    INFO(file);
    Run r;
    r.start(4);
    const fs::path path = r.checkpoint(4) / file;
    std::string bytes = io::read_text(path);
    bytes[bytes.size() - 40] ^= 1;  // the lowest bit of a number, a letter of a key or a value
    write_bytes(path, bytes);
    const std::string e = r.go(true, -1);
    CHECK_MESSAGE(e.starts_with("[hybridmed."), file, ": ", e);
  }
  Run r;
  r.start(4);
  std::string vocabulary = io::read_text(r.folder / "vocab.txt");
  const auto last = vocabulary.rfind('\n', vocabulary.size() - 2),
             before = vocabulary.rfind('\n', last - 1);
  write_bytes(r.folder / "vocab.txt",
              vocabulary.substr(0, before + 1) + vocabulary.substr(last + 1) +
                  vocabulary.substr(before + 1, last - before));  // two tokens change places
  CHECK(holds(r.go(true, -1), "vocab.txt"));
}

TEST_CASE(
    "a checkpoint whose files do not belong together is refused, with and without its checksums") {
  const auto begun = [](Run& r) {
    r.start(stage1_steps + 2);  // two steps into stage 2
    return r.checkpoint(stage1_steps + 2);
  };
  const auto refused = [](Run& r, std::initializer_list<const char*> words) {
    const Snapshot before = snapshot(r.folder);
    const std::string e = r.go(true, -1);
    for (const char* word : words) CHECK_MESSAGE(holds(e, word), e);
    nothing_changed(before, snapshot(r.folder));
  };
  for (const char* list : {"{}", "[]", "3", "null", "{\"other\":\"0\"}"}) {
    Run r;
    write_bytes(begun(r) / "checksums.json", list);
    refused(r, {"checksums.json", "holds no checksum of"});
  }
  for (const std::int64_t step : {std::int64_t{9223372036854775807}, std::int64_t{4294967296},
                                  std::int64_t{stage1_steps + 3}}) {
    Run r;
    const fs::path dir = begun(r);
    fs::remove(dir / "checksums.json");
    io::Json j = io::read_json(dir / "state.json");
    j["step"] = step;
    write_bytes(dir / "state.json", j.dump(1));
    refused(r, {"state.json", "'step'"});
  }
  const auto moments = [](const fs::path& dir, const std::string& steps, const std::string& type,
                          double v) {
    fs::remove(dir / "checksums.json");
    const io::Safetensors was = io::Safetensors::read(dir / "optimizer.safetensors");
    io::SafetensorsWriter w;
    w.metadata("steps", steps.empty() ? was.metadata().at("steps") : steps);
    for (const auto& [name, t] : was.tensors()) {
      std::vector<Index> sizes = t.shape;
      Shape shape;
      if (sizes.size() == 1) shape = {sizes[0]};
      if (sizes.size() == 2) shape = {sizes[0], sizes[1]};
      if (sizes.size() == 3) shape = {sizes[0], sizes[1], sizes[2]};
      if (sizes.size() == 4) shape = {sizes[0], sizes[1], sizes[2], sizes[3]};
      std::vector<float> values(static_cast<std::size_t>(t.size()));
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<float>(t.at(static_cast<Index>(i)));
      if (name.starts_with("v.") && v != 0 && !values.empty()) values[0] = static_cast<float>(v);
      if (type == "I32" && name.starts_with("m."))
        w.add(name, Tensor<std::int32_t, B>::full(shape, 0));
      else
        w.add(name, Tensor<float, B>::from_host(values, shape));
    }
    w.write(dir / "optimizer.safetensors");
  };
  struct Row {
    const char *steps, *type;
    double v;
    const char* says;
  };
  for (const Row& row : {Row{"0", "", 0, "of 0 steps, but state.json says stage_step = 2"},
                         {"1", "", 0, "of 1 steps"},
                         {"", "I32", 0, "expected floats, got I32"},
                         {"", "", -1000, "number below 0"}}) {
    Run r;
    moments(begun(r), row.steps, row.type, row.v);
    refused(r, {"optimizer.safetensors", row.says});
  }
  // A copy that somebody kept is no checkpoint: it is neither gone on from nor removed.
  Run r;
  const fs::path dir = begun(r);
  fs::copy(dir, dir.string() + "-keep-me", fs::copy_options::recursive);
  r.goes_on();
  CHECK(fs::exists(dir.string() + "-keep-me"));
}
