// The program as people use it: what it says about data, labels, weights and generated text, and
// how it stops.
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <map>
#include <sstream>
#include <thread>

#include "hybridmed/io/safetensors.hpp"
#include "program/program.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE(
    "check names leakage, doubled and unknown labels, lost letters and suspicious pictures; 1 "
    "where something is refused later") {
  const Data d;
  Said s = run("check" + d.option());
  CHECK_MESSAGE(s.code == 0, s.err);
  CHECK(holds(s.out, "labels               5 columns; 60 of 60"));
  CHECK(holds(s.out, "suspicious pictures  0"));

  write(d.path / "splits/test.txt", d.text("splits/test.txt") + "phantom0\n");
  s = run("check" + d.option());
  CHECK(s.code == 1);
  CHECK(holds(s.out, "1 studies are in split 'test' and in 'train': phantom0"));
  const Said evaluated = run("evaluate" + trained().of_run() + d.option() + "--out '" +
                             (d.path / "ev").string() + "'");
  CHECK_MESSAGE(evaluated.code == 0, evaluated.err);
  CHECK(holds(evaluated.out, "phantom0"));
  CHECK(holds(evaluated.out, "1 of these"));
  const Said begun =
      run("pretrain --config '" + trained().config.string() + "' --set data='" + d.path.string() +
          "' --run '" + (d.path / "run").string() + "' --stop-after 1");
  CHECK(holds(begun.err, "leakage     1 studies"));

  const Data e;
  const std::string table = e.text("studies.csv");
  write(e.path / "studies.csv",
        table + "chinese,train,phantom1.png,,1,1,\xE5\xBF\x83\xE8\x84\x8F normal,normal\n");
  write(e.path / "labels.csv",
        e.text("labels.csv") + "phantom0,train,0,1,1,1,1,1\nchinese,train,0,,-1,0.0,1.0,\n");
  write(e.path / "images/black.png", e.text("images/phantom0.png"));
  s = run("check" + e.option());
  CHECK(s.code == 1);
  CHECK(holds(s.out, "study 'phantom0' is listed twice"));
  CHECK(holds(s.out, "2 letters and digits beyond ASCII in 1 studies"));
  CHECK(holds(s.out, "cleaning=none"));
  CHECK(holds(s.out, "1 uncertain"));
  CHECK(holds(
      s.out, "phantom1.png (study 'phantom1'): the same pixels as phantom1.png (study 'chinese')"));
}

TEST_CASE(
    "evaluate: every labelled image counts, whatever its texts; the mean says what it holds; "
    "labels are needed with prompts alone") {
  const Data d;
  const std::string test_ids = d.text("splits/test.txt");
  CHECK(run("evaluate" + trained().of_run() + d.option() + "--out '" + (d.path / "a").string() +
            "'" + prompts_file(d.path))
            .code == 0);
  // Without one text in the table, the figures of the labels are the same.
  std::string bare = "study_id,split,frontal_images\n";
  for (int i = 0; i < 60; ++i)
    bare += "phantom" + std::to_string(i) + ",x,phantom" + std::to_string(i) + ".png\n";
  write(d.path / "studies.csv", bare);
  Said s = run("evaluate" + trained().of_run() + d.option() + "--out '" + (d.path / "b").string() +
               "'" + prompts_file(d.path));
  CHECK_MESSAGE(s.code == 0, s.err);
  fs::remove(d.path / "studies.csv");  // labels.csv alone lists the studies
  s = run("evaluate" + trained().of_run() + d.option() + "--out '" + (d.path / "c").string() + "'" +
          prompts_file(d.path));
  CHECK_MESSAGE(s.code == 0, s.err);
  for (const std::string label : {"nodule", "effusion"})
    for (const char* other : {"b", "c"})
      CHECK(figure(d.path / "a", "auroc/both/" + label)["n"] ==
            figure(d.path / other, "auroc/both/" + label)["n"]);

  const Data e;
  s = run("evaluate" + trained().of_run() + e.option() + "--out '" + (e.path / "a").string() + "'" +
          prompts_file(e.path, R"("mean_of":["effusion"],)"));
  CHECK_MESSAGE(s.code == 0, s.err);
  CHECK(figure(e.path / "a", "auroc/both/mean of the labels listed")["labels"] ==
        io::Json{"effusion"});
  CHECK(holds(s.out, "the mean holds 1 labels: effusion"));
  CHECK(run("evaluate" + trained().of_run() + e.option() +
            prompts_file(e.path, R"("mean_of":["nobody"],)"))
            .code == 1);

  std::string labels = e.text("labels.csv");
  labels.replace(labels.find("phantom50,"),
                 labels.find('\n', labels.find("phantom50,")) - labels.find("phantom50,"),
                 "phantom50,test,0,maybe,0,0,0,0");
  write(e.path / "labels.csv", labels);
  CHECK(
      run("evaluate" + trained().of_run() + e.option() + "--out '" + (e.path / "b").string() + "'")
          .code == 0);  // no prompts, no labels
  s = run("evaluate" + trained().of_run() + e.option() + prompts_file(e.path));
  CHECK(s.code == 1);
  CHECK_MESSAGE((holds(s.err, "'maybe'") && holds(s.err, "nodule")), s.err);
}

TEST_CASE(
    "weights that are no numbers are refused when a run is opened, and name the tensor; text that "
    "collapsed is said to have") {
  const ScratchFolder f;
  fs::copy(trained().folder, f.path / "run", fs::copy_options::recursive);
  fs::path weights;
  for (const auto& e : fs::recursive_directory_iterator(f.path / "run"))
    if (e.path().filename() == "model.safetensors" && holds(e.path().string(), "best-stage2"))
      weights = e.path();
  std::string bytes = io::read_text(weights);
  const std::string image = " '" + (trained().data / "images/phantom0.png").string() + "'";
  const std::string of_run = " --run '" + (f.path / "run").string() + "'";
  CHECK(run("embed" + of_run + image).code == 0);
  const float nan = std::nanf("");
  std::memcpy(bytes.data() + bytes.size() - 4, &nan, 4);
  write(weights, bytes);
  Said s = run("embed" + of_run + image);
  CHECK(s.code == 1);
  CHECK_MESSAGE((holds(s.err, "tensor '") && holds(s.err, "nan")), s.err);
  CHECK(s.out == "");
  const float one = 1;
  std::memcpy(bytes.data() + bytes.size() - 4, &one,
              4);  // a number, and not the one that was written
  write(weights, bytes);
  s = run("embed" + of_run + image);
  CHECK(s.code == 1);
  CHECK_MESSAGE(holds(s.err, "checksum"), s.err);
  write(weights, std::string("PK\x03\x04", 4) + std::string(100, 'x'));
  CHECK(holds(run("embed" + of_run + image).err, "torch.save"));

  std::string images;
  for (int i = 0; i < 6; ++i)
    images += " '" +
              (trained().data / "images" / ("phantom" + std::to_string(i) + ".png")).string() + "'";
  s = run("caption" + trained().of_run() + images);
  CHECK(s.code == 0);
  std::map<std::string, int> counts;
  std::istringstream lines(s.out);
  for (std::string line; std::getline(lines, line);) ++counts[line.substr(line.find('\t') + 1)];
  const auto commonest =
      std::max_element(counts.begin(), counts.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  CHECK_MESSAGE(holds(s.err, std::to_string(commonest->second) +
                                 " of 6 captions are the same text") == (commonest->second >= 3),
                s.err);
}

TEST_CASE("a run whose files were changed is refused when it is opened, and names the file") {
  const ScratchFolder f;
  const fs::path folder = f.path / "run";
  const auto fresh = [&] {
    fs::remove_all(folder);
    fs::copy(trained().folder, folder, fs::copy_options::recursive);
  };
  const std::string evaluate = "evaluate --run '" + folder.string() + "' --data '" +
                               trained().data.string() + "' --out '" + (f.path / "out").string() +
                               "'";
  const auto refused = [&](const std::string& file, const std::string& why) {
    const Said s = run(evaluate);
    CHECK(s.code == 1);
    CHECK_MESSAGE((holds(s.err, file.empty() ? folder.string() : (folder / file).string()) &&
                   holds(s.err, why)),
                  s.err);
  };
  const auto config = [&](const char* key, const io::Json& value) {
    fresh();
    io::Json j = io::read_json(folder / "config.json");
    j[key] = value;
    write(folder / "config.json", j.dump(1));
  };
  fresh();
  CHECK(run(evaluate).code == 0);
  config("heads", 4);
  refused("config.json", "heads (was 2, is 4)");
  config("ln_eps", 0.01);
  refused("config.json", "ln_eps");
  config("resize", 64);
  refused("config.json", "resize");
  config("vocab", 10000000);
  refused("", "vocab.txt has");
  fresh();
  const std::string tokens = io::read_text(folder / "vocab.txt");
  const auto last = tokens.rfind('\n', tokens.size() - 2), before = tokens.rfind('\n', last - 1);
  write(folder / "vocab.txt", tokens.substr(0, before + 1) + tokens.substr(last + 1) +
                                  tokens.substr(before + 1, last - before));
  refused("vocab.txt", "not the vocabulary");
  for (const std::string file :
       {"seen_impressions.txt", "most_frequent_impression.txt", "trained_studies.txt"}) {
    fresh();
    write(folder / file, "garbage\n");
    refused(file, file == "most_frequent_impression.txt" ? "not among the training impressions"
                                                         : "expected a hash");
    fs::remove(folder / file);
    if (file == "trained_studies.txt")
      CHECK(holds(run(evaluate).out, "leakage     cannot be told"));
    else
      refused(file, "No such file");
  }
  for (const std::string other :
       {"../run/best-stage2-step-00000001", "best-stage1-step-00000005", "best-stage2-step-"}) {
    fresh();
    write(folder / "best-stage2.json", R"({"folder":")" + other + "\"}");
    refused("best-stage2.json", "'folder'");
  }
}

TEST_CASE("check says what pretrain would refuse, in lists, splits, scripts and encodings") {
  const auto both = [](const Data& d, const std::string& why) {
    const Said checked = run("check" + d.option());
    CHECK_MESSAGE(checked.code == 1, checked.out);
    CHECK_MESSAGE(holds(checked.out + checked.err, why), checked.out, checked.err);
    const Said begun =
        run("pretrain --config '" + trained().config.string() + "' --set data='" + d.path.string() +
            "' --run '" + (d.path / "run").string() + "' --stop-after 1");
    CHECK_MESSAGE(begun.code == 1, begun.err);
    CHECK_MESSAGE(holds(begun.err, why), begun.err);
  };
  const Data renamed;
  fs::rename(renamed.path / "splits/valid.txt", renamed.path / "splits/val.txt");
  both(renamed, "its splits are test, train, val");
  const Data empty;
  write(empty.path / "splits/train.txt", "\n \n");
  both(empty, "no study is left in split 'train'");
  const Data wide;
  write(wide.path / "splits/test.txt", std::string("p\0h\0", 4));
  both(wide, "UTF-16");
  const Data latin;
  write(latin.path / "studies.csv",
        latin.text("studies.csv") + "latin,train,phantom1.png,,1,1,caf\xE9,normal\n");
  both(latin, "line 62: the byte 0xE9 is no UTF-8");
  CHECK(run("check --set encoding=latin-1" + latin.option()).code == 0);
  CHECK(holds(run("check --set encoding=utf-8" + latin.option()).out,
              "1 bytes in 1 studies are no UTF-8"));
  const Data foreign;
  std::string table = "study_id,split,frontal_images,findings,impression\n";
  for (int i = 0; i < 60; ++i)
    table += "phantom" + std::to_string(i) + ",train,phantom" + std::to_string(i) +
             ".png,\xE5\xBF\x83,\xE5\xBF\x83\n";
  write(foreign.path / "studies.csv", table);
  both(foreign, "cleaning=none keeps them");
  CHECK(holds(run("check" + foreign.option()).out,
              "60 of 60 studies have a row"));  // pictures and labels are looked at all the same
  // Blanks around names, and line ends of old machines, are no part of them.
  const Data blanks;
  std::string list = blanks.text("splits/train.txt"), old;
  for (char c : list) old += c == '\n' ? "\r  " : std::string(1, c);
  write(blanks.path / "splits/train.txt", "  " + old);
  CHECK(run("check" + blanks.option()).code == 0);
  // One picture in two splits under two names.
  const Data twice;
  fs::copy_file(twice.path / "images/phantom0.png", twice.path / "images/other.png");
  write(twice.path / "studies.csv",
        twice.text("studies.csv") + "other,test,other.png,,1,1,normal,normal\n");
  write(twice.path / "splits/test.txt", twice.text("splits/test.txt") + "other\n");
  const Said s = run("check" + twice.option());
  CHECK(s.code == 1);
  CHECK_MESSAGE(holds(s.out, "splits test, train share a picture: "), s.out);
}

TEST_CASE(
    "what is lost of a text is said; what is no regular file is refused; a number that does not "
    "fit is no number") {
  const ScratchFolder f;
  const Said s = run("summarize" + trained().of_run() + "< '" + [&] {
    write(f.path / "lines", "...\n\xD0\xA1\xD0\xB5 normal heart\nnormal heart\n");
    return (f.path / "lines").string();
  }() + "'");
  CHECK(s.code == 0);
  CHECK(std::count(s.out.begin(), s.out.end(), '\n') == 3);
  CHECK_MESSAGE(holds(s.err, "line 1 has no words"), s.err);
  CHECK_MESSAGE(holds(s.err, "2 letters and digits beyond ASCII in standard input, line 2"), s.err);
  CHECK_FALSE(holds(s.err, "line 3"));
  const fs::path pipe = f.path / "pipe.png";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(holds(run("caption" + trained().of_run() + "'" + pipe.string() + "'").err,
              "no regular file"));
  const std::string pretrain = " pretrain --config '" + trained().config.string() + "' --run '" +
                               (f.path / "run").string() + "'";
  for (const char* option : {"--seed 18446744073709551615", "--seed 99999999999999999999999",
                             "--seed 1x", "--threads 99999999999999999999", "--seed -1"}) {
    CHECK(run(option + pretrain).code != 0);
    CHECK_FALSE(fs::exists(f.path / "run/config.json"));
  }
  for (const char* bad : {"null", "1", "\"effusion\"", "[1]", "[]", "[\"effusion\",\"effusion\"]"})
    CHECK(holds(run("classify" + trained().of_run() +
                    prompts_file(f.path, std::string("\"mean_of\":") + bad + ",") + "x.png")
                    .err,
                "mean_of"));
}

TEST_CASE("settings that make no sense are refused by key; threads are what the machine can give") {
  const ScratchFolder f;
  const std::string pretrain = "pretrain --config '" + trained().config.string() + "' --run '" +
                               (f.path / "run").string() + "' --stop-after 1";
  for (const char* key : {"workers", "resize", "cache_mb"}) {
    const Said s = run(pretrain + " --set " + key + "=4294967296");
    CHECK(s.code == 1);
    CHECK_MESSAGE(holds(s.err, key), s.err);
  }
  CHECK(holds(run(pretrain + " --set lambda_sum=0").err, "lambda_sum"));
  const Said many = run(pretrain, "OMP_NUM_THREADS=100000");
  CHECK_MESSAGE(many.code == 130, many.err);  // stopped after a step, as asked
  CHECK(run("--threads 4000 embed" + trained().of_run() + "x.png").code != 0);
}

TEST_CASE(
    "a resumed run refuses another configuration, by key, from a file as from --set, and takes the "
    "same one again") {
  const ScratchFolder f;
  const std::string to = "' --run '" + (f.path / "run").string() + "' ",
                    config = trained().config.string();
  CHECK(run("pretrain --config '" + config + to + "--set lr_stage2=0.002 --stop-after 2").code ==
        130);
  Said s = run("pretrain --config '" + config + to +
               "--resume --stop-after 3");  // without the --set of the first time
  CHECK(s.code == 1);
  CHECK_MESSAGE(holds(s.err, "lr_stage2 (was 0.002"), s.err);
  s = run("pretrain --run '" + (f.path / "run").string() +
          "' --resume --set batch=4 --set heads=4");
  CHECK_MESSAGE((holds(s.err, "batch (was 8, is 4)") && holds(s.err, "heads (was 2, is 4)")),
                s.err);
  CHECK(run("pretrain --config '" + config + to + "--set lr_stage2=0.002 --resume --stop-after 3")
            .code == 130);
  s = run("pretrain --run '" + (f.path / "run").string() + "' --resume --set epochs_stage2=2");
  CHECK_MESSAGE(s.code == 0, s.err);
}

TEST_CASE(
    "SIGHUP and a closed pipe save before the program ends; a second Ctrl-C ends it at once") {
  const ScratchFolder f;
  const std::string endless = "pretrain --config '" + trained().config.string() +
                              "' --set epochs_stage1=100000 --set checkpoint_every=1000000 --run '";
  const auto checkpoints = [&](const char* name) {
    std::error_code ec;
    return std::distance(fs::directory_iterator(f.path / name / "checkpoints", ec),
                         fs::directory_iterator());
  };
  const auto begun = [&](const char* name) {
    for (int i = 0; i < 600; ++i) {
      std::error_code ec;
      if (fs::exists(f.path / name / "log.csv", ec) &&
          fs::file_size(f.path / name / "log.csv", ec) > 200)
        return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return false;
  };
  const auto start = [&](const char* name) {
    const pid_t child = ::fork();
    if (child == 0) {
      const std::string command =
          "exec '" + program + "' " + endless + (f.path / name).string() + "' >/dev/null 2>&1";
      ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      ::_exit(127);
    }
    return child;
  };
  const auto end_of = [](pid_t child) {
    for (int i = 0; i < 1200; ++i) {
      int status = 0;
      if (::waitpid(child, &status, WNOHANG) == child)
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    ::kill(child, SIGKILL);
    return -1;
  };
  pid_t child = start("hangup");
  REQUIRE(begun("hangup"));
  ::kill(child, SIGHUP);
  CHECK(end_of(child) == 130);
  CHECK(checkpoints("hangup") == 1);

  child = start("twice");
  REQUIRE(begun("twice"));
  ::kill(child, SIGINT);
  ::kill(child, SIGINT);
  const int code = end_of(child);
  CHECK((code == 128 + SIGINT || code == 130));

  // Somebody looks at the first lines only. The trainer writes into a pipe that nobody reads.
  const std::string command =
      "'" + program + "' " + endless + (f.path / "pipe").string() + "' 2>&1 | head -n 1 >/dev/null";
  CHECK(std::system(command.c_str()) == 0);
  for (int i = 0; i < 600 && checkpoints("pipe") == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(checkpoints("pipe") == 1);
}
