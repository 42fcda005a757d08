#pragma once
// A finished (or running) run, opened for use: configuration, vocabulary, and the best weights so
// far.
#include <optional>

#include "hybridmed/system/systems.hpp"
#include "hybridmed/train/checkpoint.hpp"
#include "hybridmed/train/console.hpp"
#include "hybridmed/train/run_config.hpp"
#include "hybridmed/train/upload.hpp"

namespace hybridmed::train {

/// Weights file of a run that trains that many stages: the best of the last, else the newest
/// checkpoint, else the best of the stage before.
inline std::filesystem::path weights_of(const std::filesystem::path& run, std::size_t stages) {
  const int last = static_cast<int>(stages);
  if (auto p = best_weights(run, last); !p.empty()) return p;
  if (const auto all = list_checkpoints(run); !all.empty()) return all.back() / "model.safetensors";
  if (auto p = best_weights(run, last - 1); !p.empty()) return p;
  fail("train", "run", run.string() + ": holds no weights",
       "train it first with: pretrain --config FILE --run " + shell_word(run.string()));
}

/// Compares what a weights file says it belongs to with a run's configuration and vocabulary; a
/// file that says nothing passes.
/// @throws Error that names vocab.txt, or the keys that differ.
inline void check_belongs(const io::Safetensors& weights, const RunConfig& config,
                          std::uint64_t vocabulary, const std::filesystem::path& run) {
  for (const auto& [key, now] : weights_metadata(config, vocabulary)) {
    const auto it = weights.metadata().find(key);
    if (it == weights.metadata().end() || it->second == now) continue;
    if (key == "vocabulary")
      fail("train", "run",
           tokenizer_file(run).string() + ": not the vocabulary that " + weights.source() +
               " was trained with",
           "give it back");
    const io::Json then = io::parse_json(it->second, weights.source() + " (metadata)"),
                   is = io::parse_json(now, "config.json");
    // A key that the weights' version did not know had its default.
    const io::Json usual = io::to_json(RunConfig());
    std::string differing;
    for (const auto& item : is.items())
      if (const io::Json& was =
              then.contains(item.key()) ? then.at(item.key()) : usual.at(item.key());
          was != item.value())
        differing += (differing.empty() ? "" : ", ") + item.key() + " (was " + was.dump() +
                     ", is " + item.value().dump() + ")";
    fail("train", "run",
         (run / "config.json").string() + ": not the configuration that " + weights.source() +
             " was trained with; changed: " + differing,
         "give it back");
  }
}

/// Weights know which folder of their run they were saved in: those of another stage or step in its
/// place would be served as what they are not.
/// @throws Error where it is another one.
inline void check_place(const io::Safetensors& weights, const std::filesystem::path& file) {
  const auto saved = weights.metadata().find("saved_as");
  if (saved == weights.metadata().end() || saved->second == file.parent_path().filename().string())
    return;
  fail("train", "run", file.string() + ": these weights were saved as " + saved->second,
       "give back the file that the run wrote there");
}

/// What the folder of a run says of it; its model is a TrainedRun's.
struct OpenedRun {
  std::filesystem::path folder;
  RunConfig config;
  system::Facts system;  // of what was trained; the model has its parts and no others
  std::filesystem::path weights;
  std::string checksum;             // of the weights file
  std::vector<std::string> unused;  // tensors of the weights file that the system has no use for
  std::optional<double> log_scale;  // of its contrastive loss, where it has one
  data::Tokenizer vocabulary;

  /// `own`: the facts of a system that is not of this library, see system::facts_of_recipe.
  explicit OpenedRun(const std::filesystem::path& run,
                     const std::optional<system::Facts>& own = std::nullopt)
      : folder(run),
        config(read_config(run)),
        system(own ? *own : system::facts_of(config.system)),
        weights(weights_of(run, stages())),
        vocabulary(data::Tokenizer::read(tokenizer_file(run))) {
    config.model.validate();
    if (static_cast<Index>(vocabulary.size()) != config.model.vocab)
      fail("train", "run",
           folder.string() + ": vocab.txt has " + std::to_string(vocabulary.size()) +
               " tokens, config.json says " + std::to_string(config.model.vocab));
  }
  /// Were these weights trained to the end of the last stage?
  bool finished() const {
    return weights.parent_path().filename().string().starts_with("best-stage" +
                                                                 std::to_string(stages()));
  }
  data::Cleaning cleaning() const { return data::cleaning_from(config.cleaning); }
  /// One image in host memory, cropped and normalised: (S, S). What is odd about the file goes to
  /// `notes`, if given.
  xt::xtensor<float, 2> read_image(const std::filesystem::path& path,
                                   std::vector<std::string>* notes = nullptr) const {
    const data::Image picture = data::read_image(path);
    if (notes)
      for (const auto& list :
           {picture.notes, data::size_notes(picture), data::contrast_notes(picture)})
        for (const auto& note : list) notes->push_back(path.string() + ": " + note);
    return prepare(picture);
  }
  /// A picture held in memory as the model sees it: (S, S).
  xt::xtensor<float, 2> prepare(const data::Image& picture) const {
    const auto o = config.dataset().transform;
    auto image = xt::xtensor<float, 2>::from_shape({o.image_size, o.image_size});
    data::crop(data::make_square(picture, o.resize), o, nullptr, {image.data(), image.size()});
    return image;
  }
  /// Images of that size as one array: (B, S, S).
  xt::xtensor<float, 3> together(const std::vector<xt::xtensor<float, 2>>& images) const {
    const auto side = static_cast<std::size_t>(config.model.image_size);
    auto grey = xt::xtensor<float, 3>::from_shape({images.size(), side, side});
    for (const auto& image : images)
      if (image.shape()[0] != side || image.shape()[1] != side)
        fail("train", "upload",
             "expected images of " + std::to_string(side) + " x " + std::to_string(side) +
                 " pixels, got " + std::to_string(image.shape()[0]) + " x " +
                 std::to_string(image.shape()[1]),
             "prepare() makes them");
    for (std::size_t i = 0; i < images.size(); ++i)
      std::copy(images[i].begin(), images[i].end(), grey.data() + i * side * side);
    return grey;
  }
  /// Its stages, up to the last that is trained.
  std::size_t stages() const { return config.trained_stages(system.stages); }

 private:
  static RunConfig read_config(const std::filesystem::path& run) {
    std::error_code ec;
    if (!std::filesystem::exists(run / "config.json", ec))
      fail("train", "run",
           run.string() + (std::filesystem::exists(run, ec) ? ": no run: it holds no config.json"
                                                            : ": no such folder"),
           "name the folder that pretrain --run has written");
    return RunConfig::read(run / "config.json");
  }
};

/// A run with its model, on backend B.
template <class T, class B>
struct TrainedRun : OpenedRun {
  using Model = decltype(model::make_hybridmed<T, B>(model::Config()));
  Model model;

  explicit TrainedRun(const std::filesystem::path& run,
                      const std::optional<system::Facts>& own = std::nullopt)
      : OpenedRun(run, own), model(model::make_hybridmed<T, B>(config.model, system.parts)) {
    const io::Safetensors stored = read_weights();
    checksum = io::checksum_text(stored.bytes());
    check_belongs(stored, config, vocabulary_hash(run), run);
    check_place(stored, weights);
    if (system.gamma1) config.model.gamma1 = model.config.gamma1 = *system.gamma1;
    unused = load_model(stored, weights, checksum, model).unexpected;
    std::erase_if(unused, [&](const std::string& name) {
      return std::find(system.parameters.begin(), system.parameters.end(), name) !=
             system.parameters.end();
    });
    if (const auto* s = stored.find("log_scale"); s && s->is_float() && s->size() == 1)
      log_scale = s->at(0);
  }
  /// Images of one study or file as the model sees them in evaluation: (B, 3, S, S).
  Tensor<T, B> load_images(const std::vector<std::filesystem::path>& paths) const {
    std::vector<xt::xtensor<float, 2>> images;
    for (const auto& path : paths) images.push_back(read_image(path));
    return upload(images);
  }
  Tensor<T, B> upload(const std::vector<xt::xtensor<float, 2>>& images) const {
    return train::upload_images<T, B>(together(images));
  }

 private:
  /// A run that is still training replaces its best weights: then the new ones are read.
  io::Safetensors read_weights() {
    for (int left = 10;; --left) try {
        return io::Safetensors::read(weights);
      } catch (const Error&) {
        const auto now = weights_of(folder, stages());
        if (now == weights || left == 0) throw;
        weights = now;
      }
  }
};

}  // namespace hybridmed::train
