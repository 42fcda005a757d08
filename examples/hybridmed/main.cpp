// hybridmed: pre-train HybridMED and use what it learned. Research software, not a medical device.
#include <CLI/CLI.hpp>

#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstdlib>
#include <iostream>

#include "commands.hpp"
#include "hybridmed/core/interrupt.hpp"

/// The first Ctrl-C, SIGTERM or SIGHUP asks for a stop: the step is finished and saved. The second, of whichever kind, ends the
/// program at once. Output that nobody reads any more (a closed pipe) asks for a stop too.
static void stop_on_signals() {
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const auto before = std::signal(signal, [](int) {
      hybridmed::app::interrupt();
      for (int again : {SIGINT, SIGTERM, SIGHUP})
        std::signal(again, again == SIGHUP ? SIG_IGN : SIG_DFL);  // a closing terminal sends SIGHUP more than once
      static constexpr char said[] = "\nstopping when this step is done and saved; once more ends at once\n";
      [[maybe_unused]] const auto written = ::write(STDERR_FILENO, said, sizeof said - 1);
    });
    if (before == SIG_IGN) std::signal(signal, SIG_IGN);  // under nohup, SIGHUP is no reason to stop
  }
  std::signal(SIGPIPE, [](int) { hybridmed::app::interrupt(); });
}

/// A 64-bit whole number of at least 0? What is larger would be clamped without a word.
static bool is_whole_number(const std::string& text) {
  long long value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0;
}

int main(int argc, char** argv) {
  using namespace hybridmed::app;
  // The OpenMP runtime reads its waiting policy when it is loaded. Idle threads must sleep: the loader's workers need the
  // processors too. So the program starts itself once more with the policy set, unless the user chose one.
  if (!std::getenv("OMP_WAIT_POLICY")) {
    ::setenv("OMP_WAIT_POLICY", "PASSIVE", 1);
    ::execv("/proc/self/exe", argv);  // on failure: go on as we are
  }
  CLI::App app{"HybridMED: medical vision-language pre-training and zero-shot use. Research software, not a medical device.", "hybridmed"};
  app.set_version_flag("--version", std::string("hybridmed ") + HYBRIDMED_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  Common common;
  const CLI::Validator whole_number([](const std::string& text) { return is_whole_number(text) ? std::string() : "expected a whole number from 0 to 9223372036854775807, got '" + text + "'"; }, "");
  app.add_option("--threads", common.threads, "threads of the CPU backend (default: all)")->check(CLI::PositiveNumber)->check(whole_number);
  app.add_option("--seed", common.seed, "seed; overrides the configuration's")->check(whole_number);

  PretrainOptions pretrain;
  auto* p = app.add_subcommand("pretrain", "train both stages");
  p->add_option("--config", pretrain.config, "configuration (JSON); not needed with --resume");
  p->add_option("--run", pretrain.run, "run folder to write")->required();
  p->add_option("--set", pretrain.overrides, "key=value, overrides the configuration")->allow_extra_args(false);
  p->add_option("--init", pretrain.init, "start from these weights (safetensors)");
  p->add_flag("--resume", pretrain.resume, "go on from the newest checkpoint of --run");
  p->add_option("--stop-after", pretrain.stop_after, "save and stop after this many steps")->check(CLI::PositiveNumber)->check(whole_number);

  EvaluateOptions evaluate;
  auto* e = app.add_subcommand("evaluate", "zero-shot, retrieval, captions and summaries on a data folder");
  e->add_option("--run", evaluate.run, "trained run")->required();
  e->add_option("--data", evaluate.data, "data folder")->required();
  e->add_option("--split", evaluate.split, "split (default: test where the folder has one, else all studies)");
  e->add_option("--prompts", evaluate.prompts, "prompts per label (JSON)");
  e->add_option("--out", evaluate.out, "write evaluation.json and pictures here (default: the run folder)");

  ImagesOptions caption, classify, embed;
  auto* c = app.add_subcommand("caption", "an impression for each image: path, tab, text");
  c->add_option("--run", caption.run, "trained run")->required();
  c->add_option("images", caption.images, "PNG or JPEG files")->required();
  auto* k = app.add_subcommand("classify", "zero-shot scores of each image as CSV");
  k->add_option("--run", classify.run, "trained run")->required();
  k->add_option("--prompts", classify.prompts, "prompts per label (JSON)")->required();
  k->add_option("images", classify.images, "PNG or JPEG files")->required();
  auto* m = app.add_subcommand("embed", "the global embedding of each image as CSV");
  m->add_option("--run", embed.run, "trained run")->required();
  m->add_option("images", embed.images, "PNG or JPEG files")->required();

  std::string summarize_run;
  auto* s = app.add_subcommand("summarize", "an impression for each findings text, one a line on standard input");
  s->add_option("--run", summarize_run, "trained run")->required();

  AttentionOptions attention;
  auto* a = app.add_subcommand("attention", "where the words of a prompt look, as one PNG sheet");
  a->add_option("--run", attention.run, "trained run")->required();
  a->add_option("--prompt", attention.prompt, "text")->required();
  a->add_option("--out", attention.out, "PNG to write")->required();
  a->add_option("image", attention.image, "PNG or JPEG file")->required();

  CheckOptions check;
  auto* d = app.add_subcommand("check", "what a data folder holds");
  d->add_option("--data", check.data, "data folder")->required();
  d->add_option("--config", check.config, "configuration with the names of table and columns and the cleaning (JSON; default: the usual ones)");

  PhantomCommand phantom;
  auto* f = app.add_subcommand("phantom", "write a folder of procedural phantoms");
  f->add_option("--out", phantom.out, "folder to write")->required();
  f->add_option("--count", phantom.count, "number of studies")->check(CLI::Range(1, 1000000));
  f->add_option("--side", phantom.side, "image side in pixels")->check(CLI::Range(32, 2048));

  std::string curves_run;
  auto* g = app.add_subcommand("curves", "draw the loss curves of a run to its curves.png");
  g->add_option("--run", curves_run, "run folder")->required();

  for (CLI::App* command : app.get_subcommands({}))
    for (CLI::Option* option : command->get_options())
      if (option->get_expected_max() > 0) option->check([](const std::string& value) { return value.empty() ? std::string("expected a value, got an empty one") : std::string(); });

  CLI11_PARSE(app, argc, argv);
  const auto run = [&] {
    if (*p) {
      stop_on_signals();
      return run_pretrain(common, pretrain);
    }
    set_threads(common);
    if (*e) return run_evaluate(evaluate);
    if (*c) return run_caption(caption);
    if (*k) return run_classify(classify);
    if (*m) return run_embed(embed);
    if (*s) return run_summarize(summarize_run);
    if (*a) return run_attention(attention);
    if (*d) return run_check(check);
    if (*f) return run_phantom(common, phantom);
    return run_curves(curves_run);
  };
  try {
    const int code = run();
    if (!std::cout.flush()) hybridmed::fail("app", "output", "standard output cannot be written: what was printed is not complete");
    return code;
  } catch (const hybridmed::Interrupted& stop) {
    std::cerr << stop.reason() << "; nothing was saved: no step was made\n";
    return 130;
  } catch (const std::bad_alloc&) {
    std::cout.flush();
    std::cerr << "error: out of memory on the host, for tables, texts or pictures; lower cache_mb, resize, image_size or batch, or give the data in parts\n";
    return 1;
  } catch (const std::exception& error) {
    std::cout.flush();
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
