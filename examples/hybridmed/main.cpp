// hybridmed: pre-train HybridMED and use what it learned. Research software, not a medical device.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <iostream>

#include "commands.hpp"
#include "hybridmed/core/interrupt.hpp"
#include "hybridmed/data/csv.hpp"
#include "hybridmed/train/stop_on_signals.hpp"

/// A 64-bit whole number of at least 0? What is larger would be clamped without a word.
static bool is_whole_number(const std::string& text) {
  long long value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0;
}

/// The command as a shell would read it again.
static std::string command_line(int argc, char** argv) {
  std::string out;
  for (int i = 0; i < argc; ++i) {
    std::string word = argv[i];
    const bool plain =
        !word.empty() &&
        word.find_first_not_of(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%") ==
            word.npos;
    if (!plain) {
      std::string quoted = "'";
      for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
      word = quoted + "'";
    }
    out += (i ? " " : "") + word;
  }
  return out;
}

/// "; did you mean 'x'?", or nothing where no name is near.
static std::string near(const std::string& word, const std::vector<std::string>& names) {
  const std::string question = hybridmed::data::did_you_mean(word, names);
  return question.empty() ? question : "; " + question;
}

/// What to say of arguments that the parser refused: the nearest command or option.
static std::string suggestion(const CLI::App& app, int argc, char** argv) {
  const CLI::App* command = nullptr;
  std::vector<std::string> commands;
  for (const CLI::App* c : app.get_subcommands([](const CLI::App*) { return true; }))
    commands.push_back(c->get_name());
  const auto options_of = [](const CLI::App& a) {
    std::vector<std::string> out;
    for (const CLI::Option* o : a.get_options([](const CLI::Option*) { return true; }))
      for (const auto& name : o->get_lnames()) out.push_back("--" + name);
    return out;
  };
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.starts_with("--")) {
      std::vector<std::string> known = options_of(app);
      if (command)
        for (const auto& o : options_of(*command)) known.push_back(o);
      const std::string option = word.substr(0, word.find('='));
      if (std::find(known.begin(), known.end(), option) == known.end()) {
        return "there is no option '" + option + "'" +
               (command ? " of " + command->get_name() : std::string()) + near(option, known);
      }
    } else if (command && word.find('=') != word.npos && i > 2 &&
               std::string(argv[i - 2]) == "--set") {
      return "'" + word + "' stands alone: write --set before each key, as in --set a=1 --set b=2";
    } else if (!command && !word.starts_with("-")) {
      if (i > 1 && std::string(argv[i - 1]).starts_with("--")) continue;  // the value of an option
      const auto it = std::find(commands.begin(), commands.end(), word);
      if (it == commands.end()) {
        std::string all;
        for (const auto& c : commands) all += (all.empty() ? "" : ", ") + c;
        const std::string question = near(word, commands);
        return "there is no command '" + word + "'" + question + (question.empty() ? "." : "") +
               " The commands are " + all;
      }
      command = app.get_subcommand(word);
    }
  }
  return {};
}

int main(int argc, char** argv) {
  using namespace hybridmed::app;
  // The OpenMP runtime reads its waiting policy when it is loaded. Idle threads must sleep: the
  // loader's workers need the processors too. So the program starts itself once more with the
  // policy set, unless the user chose one.
  if (!std::getenv("OMP_WAIT_POLICY")) {
    ::setenv("OMP_WAIT_POLICY", "PASSIVE", 1);
    ::execv("/proc/self/exe", argv);  // on failure: go on as we are
  }
  CLI::App app{
      "HybridMED: medical vision-language pre-training and zero-shot use. Research software, not a "
      "medical device.",
      "hybridmed"};
  app.set_version_flag("--version", std::string("hybridmed ") + HYBRIDMED_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  Common common;
  common.command = command_line(argc, argv);
  const CLI::Validator whole_number(
      [](const std::string& text) {
        return is_whole_number(text)
                   ? std::string()
                   : "expected a whole number from 0 to 9223372036854775807, got '" + text + "'";
      },
      "");
  const CLI::Validator at_least_one(
      [](const std::string& text) {
        return is_whole_number(text) && text.find_first_not_of('0') != text.npos
                   ? std::string()
                   : "expected a whole number of at least 1, got '" + text + "'";
      },
      "");
  const CLI::Validator thread_count(
      [](const std::string& text) {
        const bool fine = is_whole_number(text) && text.size() <= 5 && std::stol(text) >= 1;
        return fine ? std::string()
                    : "expected a number of threads from 1 to 99999, got '" + text + "'";
      },
      "");
  const CLI::Validator built_in(
      [](const std::string& text) { return text == "cuda" ? cuda_is_missing() : std::string(); },
      "");
  auto* backend = app.add_option("--backend", common.backend,
                                 "what computes: cpu | cuda, a GPU of NVIDIA (default: cpu)");
  backend->check(CLI::IsMember({"cpu", "cuda"}))->check(built_in);
  app.add_option("--device", common.device, "which GPU, counted from 0 (default: 0)")
      ->check(CLI::Range(0, 1023))
      ->needs(backend);
  app.add_flag("--tf32", common.tf32,
               "with --backend cuda: products of floats on tensor cores, their factors rounded to "
               "TF32 (default: floats are floats)")
      ->needs(backend);
  app.add_option("--threads", common.threads, "threads of the CPU backend (default: all)")
      ->check(thread_count);
  app.add_option("--seed", common.seed, "seed; overrides the configuration's")->check(whole_number);

  PretrainOptions pretrain;
  auto* pretrain_command = app.add_subcommand("pretrain", "train both stages");
  pretrain_command->add_option("--config", pretrain.config,
                               "configuration (JSON); not needed with --resume");
  pretrain_command->add_option("--run", pretrain.run, "run folder to write")->required();
  pretrain_command
      ->add_option("--set", pretrain.overrides,
                   "key=value, overrides the configuration; once for each key")
      ->allow_extra_args(false);
  pretrain_command->add_option("--init", pretrain.init, "start from these weights (safetensors)");
  pretrain_command->add_flag("--resume", pretrain.resume,
                             "go on from the newest checkpoint of --run");
  pretrain_command
      ->add_option("--stop-after", pretrain.stop_after,
                   "save and stop after this many steps, counted from the run's beginning")
      ->check(at_least_one);

  EvaluateOptions evaluate;
  auto* evaluate_command = app.add_subcommand(
      "evaluate", "zero-shot, retrieval, captions and summaries on a data folder");
  evaluate_command->add_option("--run", evaluate.run, "trained run")->required();
  evaluate_command->add_option("--data", evaluate.data, "data folder")->required();
  evaluate_command->add_option("--split", evaluate.split,
                               "split (default: test where the folder has one, else all studies)");
  evaluate_command->add_option("--prompts", evaluate.prompts, "prompts per label (JSON)");
  evaluate_command->add_option("--out", evaluate.out,
                               "write evaluation.json and pictures here (default: the run folder)");
  const auto tables = [](CLI::App* command, TableOptions& o) {
    command->add_option(
        "--config", o.config,
        "configuration (JSON) whose keys of tables and columns are read; default: the run's");
    command
        ->add_option("--set", o.overrides,
                     "key=value of the data folder: table, labels, image_folder, delimiter, "
                     "encoding, column_...; once for each key")
        ->allow_extra_args(false);
  };
  tables(evaluate_command, evaluate.tables);

  CalibrateOptions calibrate;
  auto* calibrate_command = app.add_subcommand(
      "calibrate",
      "fit zero-shot scores to probabilities on a labelled split, and keep that in the run");
  calibrate_command->add_option("--run", calibrate.run, "trained run")->required();
  calibrate_command->add_option("--data", calibrate.data, "data folder with labels")->required();
  calibrate_command->add_option("--split", calibrate.split,
                                "split to fit on (default: valid); not the one that is evaluated");
  calibrate_command->add_option("--prompts", calibrate.prompts, "prompts per label (JSON)")
      ->required();
  tables(calibrate_command, calibrate.tables);

  ImagesOptions caption, classify;
  EmbedOptions embed;
  auto* caption_command =
      app.add_subcommand("caption",
                         "an impression for each image: path, tab, text (a tab, line break "
                         "or backslash of a path is written \\t, \\n, \\\\)");
  caption_command->add_option("--run", caption.run, "trained run")->required();
  caption_command->add_option("images", caption.images, "PNG or JPEG files")->required();
  auto* classify_command = app.add_subcommand("classify", "zero-shot scores of each image as CSV");
  classify_command->add_option("--run", classify.run, "trained run")->required();
  classify_command->add_option("--prompts", classify.prompts, "prompts per label (JSON)")
      ->required();
  classify_command->add_option("images", classify.images, "PNG or JPEG files")->required();
  classify_command
      ->add_option("--scores", classify.scores,
                   "cosine: difference of similarities, no probability | probability: needs "
                   "'calibrate' (default: probability for the labels that have one)")
      ->check(CLI::IsMember({"cosine", "probability"}));
  auto* embed_command =
      app.add_subcommand("embed", "the global embedding of each image, or of each text, as CSV");
  embed_command->add_option("--run", embed.run, "trained run")->required();
  embed_command->add_option("--texts", embed.texts, "file with a text a line, instead of images");
  embed_command->add_option("images", embed.images, "PNG or JPEG files");

  std::string summarize_run;
  auto* summarize_command = app.add_subcommand(
      "summarize", "an impression for each findings text, one a line on standard input");
  summarize_command->add_option("--run", summarize_run, "trained run")->required();

  AttentionOptions attention;
  auto* attention_command = app.add_subcommand(
      "attention",
      "where the words of a text look in an image: a PNG sheet; on standard output each word's "
      "share of the text's score, and the cosine of the word and what it looks at");
  attention_command->add_option("--run", attention.run, "trained run")->required();
  attention_command->add_option("--prompt", attention.prompt, "text")->required();
  attention_command
      ->add_option("--out", attention.out,
                   "PNG to write; a long text goes on in NAME-2.png and so on")
      ->required();
  attention_command->add_option("--npy", attention.npy,
                                "also write the maps as numbers, (1 + words, G, G)");
  attention_command->add_option(
      "--csv", attention.csv,
      "also write them as a table: word, row and column of the grid, attention");
  attention_command->add_flag("--all-words", attention.all_words,
                              "draw punctuation and stop words too");
  attention_command->add_option("image", attention.image, "PNG or JPEG file")->required();

  CheckOptions check;
  auto* check_command = app.add_subcommand("check", "what a data folder holds");
  check_command->add_option("--data", check.data, "data folder (default: the configuration's)");
  check_command->add_option(
      "--config", check.tables.config,
      "configuration of the training that is meant (JSON; default: the usual names)");
  check_command
      ->add_option("--set", check.tables.overrides,
                   "key=value, overrides the configuration; once for each key")
      ->allow_extra_args(false);

  ConfigOptions config;
  auto* config_command =
      app.add_subcommand("config", "every key of a configuration: default, values, what it is");
  config_command->add_option("keys", config.keys, "keys to print (default: all)");
  config_command->add_flag("--markdown", config.markdown, "as the page docs/configuration.md");

  PhantomCommand phantom;
  auto* phantom_command = app.add_subcommand("phantom", "write a folder of procedural phantoms");
  phantom_command->add_option("--out", phantom.out, "folder to write")->required();
  phantom_command->add_option("--count", phantom.count, "number of studies")
      ->check(CLI::Range(1, 1000000));
  phantom_command->add_option("--side", phantom.side, "image side in pixels")
      ->check(CLI::Range(32, 2048));

  std::string curves_run;
  auto* curves_command =
      app.add_subcommand("curves", "draw the loss curves of a run to its curves.png");
  curves_command->add_option("--run", curves_run, "run folder")->required();

  for (CLI::App* command : app.get_subcommands({}))
    for (CLI::Option* option : command->get_options())
      if (option->get_expected_max() > 0)
        option->check([](const std::string& value) {
          return value.empty() ? std::string("expected a value, got an empty one") : std::string();
        });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const std::string better =
        error.get_exit_code() == 0 ? std::string() : suggestion(app, argc, argv);
    if (better.empty()) {
      const int code = app.exit(error);
      return std::cout.flush() ? code : 1;
    }
    std::cerr << better << "\nRun with --help for more information.\n";
    return error.get_exit_code();
  }
  if (common.tf32 && common.backend != "cuda") {
    std::cerr << "--tf32 needs --backend cuda: the CPU has no TF32\n";
    return 1;
  }
  const auto run = [&] {
    if (*pretrain_command) {
      // Output that nobody reads any more (a closed pipe) asks for a stop too.
      std::signal(SIGPIPE, [](int) { hybridmed::interrupt_requested() = true; });
      const hybridmed::train::StopOnSignals stop;
      return run_pretrain(common, pretrain);
    }
    set_threads(common);
    if (*evaluate_command) return run_evaluate(common, evaluate);
    if (*calibrate_command) return run_calibrate(common, calibrate);
    if (*caption_command) return run_caption(common, caption);
    if (*classify_command) return run_classify(common, classify);
    if (*embed_command) return run_embed(common, embed);
    if (*summarize_command) return run_summarize(common, summarize_run);
    if (*attention_command) return run_attention(common, attention);
    if (*check_command) return run_check(check);
    if (*config_command) return run_config(config);
    if (*phantom_command) return run_phantom(common, phantom);
    return run_curves(curves_run);
  };
  try {
    const int code = run();
    if (!std::cout.flush())
      hybridmed::fail("app", "output",
                      "standard output cannot be written: what was printed is not complete");
    return code;
  } catch (const hybridmed::Interrupted& stop) {
    std::cerr << stop.reason() << "; nothing was saved: no step was made\n";
    return 130;
  } catch (const std::bad_alloc&) {
    std::cout.flush();
    std::cerr << "error: out of memory on the host, for tables, texts or pictures; lower cache_mb, "
                 "resize, image_size or batch, or give the data in parts\n";
    return 1;
  } catch (const std::filesystem::filesystem_error& error) {
    std::cout.flush();
    std::cerr << "error: [hybridmed.io] files: " << error.path1().string() << ": "
              << error.code().message() << "\n";
    return 1;
  } catch (const std::exception& error) {
    std::cout.flush();
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
