// The program as a process: Ctrl-C, its exit code, and what it says of bad input.
#include <sys/prctl.h>
#include <sys/wait.h>

#include <csignal>
#include <regex>
#include <thread>

#include "training.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

#ifdef HYBRIDMED_PROGRAM
namespace {

/// The program as a process, its standard error in a file.
struct Process {
  pid_t id = -1;
  fs::path errors;
  Process(const std::string& command, fs::path errors_to, const fs::path& output = "/dev/null")
      : errors(std::move(errors_to)) {
    const std::string line =
        "exec " + command + " >'" + output.string() + "' 2>'" + errors.string() + "'";
    id = ::fork();
    if (id != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that is killed leaves no trainer behind
    ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    ::_exit(127);
  }
  int exit_code() {
    int status = 0;
    ::waitpid(std::exchange(id, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  bool running() const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(id), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
  }
  std::string said() const { return fs::exists(errors) ? io::read_text(errors) : ""; }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (id > 0) {
      ::kill(id, SIGKILL);
      exit_code();
    }
  }
};
std::string in_quotes(const fs::path& p) { return "'" + p.string() + "'"; }
int finish(const std::string& command, const fs::path& errors,
           const fs::path& output = "/dev/null") {
  return Process(command, errors, output).exit_code();
}

}  // namespace

TEST_CASE(
    "Ctrl-C in the program: it ends with 130 and a command that goes on to the undisturbed "
    "result") {
  const std::string program = HYBRIDMED_PROGRAM;
  if (!fs::exists(program)) {
    MESSAGE("skipped: ", program, " is not built");
    return;
  }
  for (const std::string name :
       {"run", "a run"}) {  // the command that is printed also works for a name with a space
    INFO(name);
    Run r;
    auto c = r.config;
    c.epochs_stage1 = 1000000;
    c.checkpoint_every = 0;
    write_bytes(r.scratch.path / "config.json", io::to_json(c).dump());
    const fs::path run = r.scratch.path / name, whole = r.scratch.path / "whole",
                   errors = r.scratch.path / "errors.txt";
    const auto train = [&](const fs::path& to) {
      return in_quotes(program) + " --threads 1 pretrain --config " +
             in_quotes(r.scratch.path / "config.json") + " --run " + in_quotes(to);
    };
    {
      Process p(train(run), errors);
      for (int i = 0; i < 6000 && p.running() && logged_steps(run) < 2; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      REQUIRE_MESSAGE(p.running(), p.said());
      ::kill(p.id, SIGINT);
      CHECK(p.exit_code() == 130);
    }
    const std::string said = io::read_text(errors);
    std::smatch command;
    REQUIRE_MESSAGE(
        std::regex_search(said, command,
                          std::regex("stopped after step ([0-9]+), saved in .*; go on with: "
                                     "hybridmed (pretrain --run [^\n]+ --resume --threads 1)\n")),
        said);
    const std::int64_t step = std::stoll(command[1]);
    CHECK(train::list_checkpoints(run).back().filename() == train::checkpoint_name(step));
    const std::string limit = " --stop-after " + std::to_string(step + 2);
    const int code = finish(in_quotes(program) + " " + command[2].str() + limit, errors);
    CHECK_MESSAGE(code == 130, "the command '", command[2].str(), "' ended with ", code, ": ",
                  io::read_text(errors));
    if (code != 130) continue;
    CHECK(finish(train(whole) + limit, errors) == 130);
    const fs::path last = fs::path("checkpoints") / train::checkpoint_name(step + 2);
    CHECK(fs::exists(whole / last));
    nothing_changed(snapshot(whole / last), snapshot(run / last));
    CHECK(io::read_text(whole / "log.jsonl") == io::read_text(run / "log.jsonl"));
  }
}

TEST_CASE("the program reports an error on standard error and ends with 1") {
  const std::string program = HYBRIDMED_PROGRAM;
  if (!fs::exists(program)) {
    MESSAGE("skipped: ", program, " is not built");
    return;
  }
  const ScratchFolder f;
  write_bytes(f.path / "config.json", R"({"batsh": 8})");
  CHECK(finish(in_quotes(program) + " pretrain --config " + in_quotes(f.path / "config.json") +
                   " --run " + in_quotes(f.path / "run"),
               f.path / "errors.txt") == 1);
  const std::string said = io::read_text(f.path / "errors.txt");
  CHECK_MESSAGE(said.starts_with("error: "), said);
  check_error(said.substr(said.find('[')), f.path / "config.json",
              {"'batsh'", "unknown key", "'batch'"});
  CHECK(!fs::exists(f.path / "run"));

  // What was printed and did not arrive is not a success.
  CHECK(finish(in_quotes(program) + " check --data " + in_quotes(corpus().data),
               f.path / "errors.txt", "/dev/full") == 1);
  CHECK(holds(io::read_text(f.path / "errors.txt"), "standard output cannot be written"));
  CHECK(finish(in_quotes(program) + " pretrain --config " + in_quotes(f.path / "config.json") +
                   " --run ''",
               f.path / "errors.txt") != 0);
  CHECK(holds(io::read_text(f.path / "errors.txt"), "--run"));
  // A configuration tells `check` how the table is named.
  const fs::path data = f.path / "data";
  fs::copy(corpus().data, data, fs::copy_options::recursive);
  fs::rename(data / "studies.csv", data / "reports.csv");
  write_bytes(f.path / "names.json", R"({"table": "reports.csv"})");
  CHECK(finish(in_quotes(program) + " check --data " + in_quotes(data), f.path / "errors.txt",
               f.path / "report.txt") == 0);
  CHECK(holds(io::read_text(f.path / "report.txt"),
              "no studies.csv"));  // labelled images without reports are a data folder too
  CHECK(finish(in_quotes(program) + " check --data " + in_quotes(data) + " --config " +
                   in_quotes(f.path / "names.json"),
               f.path / "errors.txt") == 0);

  // An id that a split lists and the table lacks is reported; a damaged picture is an error.
  const std::string check = in_quotes(program) + " check --data " + in_quotes(data) + " --config " +
                            in_quotes(f.path / "names.json");
  write_bytes(data / "splits" / "valid.txt",
              io::read_text(data / "splits" / "valid.txt") + "nobody\n");
  CHECK(finish(check, f.path / "errors.txt", f.path / "report.txt") == 0);
  CHECK(holds(io::read_text(f.path / "report.txt"),
              "study 'nobody': listed in splits/valid.txt, but not in the table"));
  write_bytes(data / "images" / "phantom3.png", "not a picture");
  CHECK(finish(check, f.path / "errors.txt", f.path / "report.txt") == 1);
  CHECK(says(io::read_text(f.path / "report.txt"),
             "line [0-9]+, study 'phantom3': .*phantom3\\.png"));

  // Of several pictures, the damaged one is left out and named.
  const std::string of_run = " --run " + in_quotes(corpus().whole);
  std::string pictures;
  for (int i : {1, 2, 3, 4})
    pictures += " " + in_quotes(data / "images" / ("phantom" + std::to_string(i) + ".png"));
  for (const std::string command : {"caption", "embed"}) {
    INFO(command);
    CHECK(finish(in_quotes(program) + " " + command + of_run + pictures, f.path / "errors.txt",
                 f.path / "out.txt") == 1);
    CHECK(holds(io::read_text(f.path / "errors.txt"), "phantom3.png"));
    const std::string out = io::read_text(f.path / "out.txt");
    for (int i : {1, 2, 4}) CHECK(holds(out, "phantom" + std::to_string(i) + ".png"));
    CHECK(!holds(out, "phantom3.png"));
  }
}
#endif
