// Serving a trained run: an image goes in; labels, a written impression and an attention map come
// out.
//
// usage: serve RUN PROMPTS.json IMAGE MAP.png
#include <cstdio>
#include <hybridmed/backend/cpu/backend.hpp>
#include <hybridmed/picture/overlay.hpp>
#include <hybridmed/task/attention_map.hpp>
#include <hybridmed/task/generate.hpp>
#include <hybridmed/task/zero_shot.hpp>
#include <hybridmed/train/trained_run.hpp>
using namespace hybridmed;
using T = float;
using B = CpuBackend;

int serve(const char* folder, const char* prompt_file, const char* image_file,
          const char* map_file) {
  const train::TrainedRun<T, B> run(folder);
  const auto& config = run.config.model;
  const Tensor<T, B> image = run.load_images({image_file});

  // Labels: positive against negative prompts, by global and local similarity.
  const auto prompts = task::read_prompts(prompt_file);
  const auto embedded = task::embed_images<T, B>(run.model, image);
  const auto scores =
      task::zero_shot<T, B>(run.model, run.vocabulary, run.cleaning(), prompts, embedded);
  for (std::size_t k = 0; k < prompts.size(); ++k)
    std::printf("%-16s %+.3f\n", prompts[k].label.c_str(), scores.used()(0, k));

  // Text: the captioning branch writes the impression.
  const auto written = task::caption(run.model, image);
  std::printf("impression: %s\n", run.vocabulary.decode(written.ids[0]).c_str());

  // Map: where the first label's first prompt looks.
  const auto words =
      task::encode_texts<T, B>(run.model, run.vocabulary, {prompts[0].positive[0]}, run.cleaning());
  const auto maps = task::attention_maps(embedded.regions[0], words.words, config.gamma1);
  const data::Image radiograph = data::read_image(image_file);
  const data::Window seen = data::evaluation_window(radiograph.width(), radiograph.height(),
                                                    run.config.dataset().transform);
  data::Preview shown = data::preview(radiograph);
  picture::draw_sheet(map_file, {prompts[0].positive[0],
                                 {},
                                 "similarity",
                                 {{"",
                                   std::move(shown.pixels),
                                   shown.width,
                                   shown.height,
                                   {seen.x, seen.y, seen.width, seen.height},
                                   maps.text,
                                   static_cast<int>(config.grid)}}});
  std::printf("map of '%s'\n", prompts[0].positive[0].c_str());
  return 0;
}

int main(int argc, char** argv) {
  try {
    if (argc == 5) return serve(argv[1], argv[2], argv[3], argv[4]);
    std::fprintf(stderr, "usage: serve RUN PROMPTS.json IMAGE MAP.png\n");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
  }
  return 1;
}
