#pragma once
// The program run as people run it: a small trained run, its data, and what the program said.
#include <doctest/doctest.h>

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>

#include "errors.hpp"
#include "hybridmed/data/csv.hpp"
#include "hybridmed/io/json.hpp"

namespace hybridmed::test {

namespace fs = std::filesystem;

inline const std::string program = HYBRIDMED_PROGRAM;

inline void write(const fs::path& file, const std::string& text) {
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
}

struct Said {
  int code = 0;
  std::string out, err;
};
/// Runs the program with these arguments (as a shell reads them); `environment` stands before it,
/// `pipe` behind it.
inline Said run(const std::string& arguments, const std::string& environment = "",
                const std::string& pipe = "") {
  const ScratchFolder f;
  const std::string command = environment + " '" + program + "' " + arguments + " 2>'" +
                              (f.path / "err").string() + "' " +
                              (pipe.empty() ? ">'" + (f.path / "out").string() + "'" : pipe);
  Said s;
  const int status = std::system(command.c_str());
  s.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (fs::exists(f.path / "out")) s.out = io::read_text(f.path / "out");
  s.err = io::read_text(f.path / "err");
  return s;
}

inline constexpr const char* small =
    R"("preset":"tiny-resnet","image_size":32,"image_width":4,"d":16,"heads":2,)"
    R"("uni_blocks":1,"dec_blocks":1,"d_a":12,"d_e":12,"grid":4,"t_findings":32,)"
    R"("t_impression":16,"vocab_size":120,"batch":8,"workers":0,"patience":0)";

/// Phantoms and a run of a few steps on them.
struct Trained {
  ScratchFolder scratch;
  fs::path data = scratch.path / "data", folder = scratch.path / "run",
           config = scratch.path / "config.json";
  Trained() {
    REQUIRE(run("--seed 3 phantom --out '" + data.string() + "' --count 60 --side 40").code == 0);
    write(config, std::string("{") + small + R"(,"epochs_stage1":1,"epochs_stage2":1,"data":")" +
                      data.string() + "\"}");
    const Said s = run("--threads 1 pretrain --config '" + config.string() + "' --run '" +
                       folder.string() + "'");
    REQUIRE_MESSAGE(s.code == 0, s.err);
  }
  std::string of_run() const { return " --run '" + folder.string() + "' "; }
};
inline const Trained& trained() {
  static const Trained t;
  return t;
}
/// A copy of the phantoms to spoil.
struct Data : ScratchFolder {
  Data() { fs::copy(trained().data, path, fs::copy_options::recursive); }
  std::string option() const { return " --data '" + path.string() + "' "; }
  std::string text(const std::string& name) const { return io::read_text(path / name); }
};

inline std::string prompts_file(const fs::path& folder, const std::string& more = "") {
  const fs::path file = folder / "prompts.json";
  write(file, "{" + more +
                  R"("nodule":{"positive":["nodule."],"negative":["normal chest."]},)"
                  R"("effusion":{"positive":["effusion."],"negative":["normal chest."]}})");
  return " --prompts '" + file.string() + "' ";
}

inline io::Json figure(const fs::path& folder, const std::string& name) {
  const io::Json written = io::read_json(folder / "evaluation.json");
  for (const auto& f : written["figures"])
    if (f["name"] == name) return f;
  FAIL("no figure " << name);
  return {};
}

inline std::string quoted(const fs::path& p) { return " '" + p.string() + "' "; }
inline std::string picture(int i) {
  return quoted(trained().data / "images" / ("phantom" + std::to_string(i) + ".png"));
}

/// A copy of the trained run, for what is written into it.
struct RunCopy : ScratchFolder {
  fs::path folder = path / "run";
  RunCopy() { fs::copy(trained().folder, folder, fs::copy_options::recursive); }
  std::string option() const { return " --run" + quoted(folder); }
};

/// Prompts of the labels of which 60 phantoms have enough.
inline std::string many_labels(const fs::path& folder) {
  const fs::path file = folder / "prompts.json";
  write(file, R"({"opacity":{"positive":["right upper zone opacity."],"negative":["normal chest."]},
                  "effusion":{"positive":["small right effusion."],"negative":["normal chest."]},
                  "cardiomegaly":{"positive":["cardiomegaly."],"negative":["normal chest."]}})");
  return " --prompts" + quoted(file);
}

inline data::Table table_of(const std::string& csv) { return data::parse_csv(csv, "printed"); }

}  // namespace hybridmed::test
