#pragma once
// A finished (or running) run, opened for use: configuration, vocabulary, and the best weights so
// far.
#include "hybridmed/train/checkpoint.hpp"
#include "hybridmed/train/run_config.hpp"

namespace hybridmed::train {

/// Weights file of a run: the best of stage 2, else the newest checkpoint, else the best of
/// stage 1.
inline std::filesystem::path weights_of(const std::filesystem::path& run) {
  if (auto p = best_weights(run, 2); !p.empty()) return p;
  if (const auto all = list_checkpoints(run); !all.empty()) return all.back() / "model.safetensors";
  if (auto p = best_weights(run, 1); !p.empty()) return p;
  fail("train", "run", run.string() + ": holds no weights",
       "train it first with: pretrain --config FILE --run " + run.string());
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
           (run / "vocab.txt").string() + ": not the vocabulary that " + weights.source() +
               " was trained with",
           "give it back");
    const io::Json then = io::parse_json(it->second, weights.source() + " (metadata)"),
                   is = io::parse_json(now, "config.json");
    std::string differing;
    for (const auto& item : is.items())
      if (!then.contains(item.key()) || then.at(item.key()) != item.value())
        differing += (differing.empty() ? "" : ", ") + item.key() + " (was " +
                     (then.contains(item.key()) ? then.at(item.key()).dump() : "not there") +
                     ", is " + item.value().dump() + ")";
    fail("train", "run",
         (run / "config.json").string() + ": not the configuration that " + weights.source() +
             " was trained with; changed: " + differing,
         "give it back");
  }
}

template <class T, class B>
struct TrainedRun {
  using Model = model::HybridMed<T, B, model::AnyEncoder<T, B>>;
  std::filesystem::path folder, weights;
  std::string checksum;             // of the weights file
  std::vector<std::string> unused;  // tensors of the weights file that the model has no use for
  RunConfig config;
  data::WordPiece vocabulary;
  Model model;

  explicit TrainedRun(const std::filesystem::path& run)
      : folder(run),
        weights(weights_of(run)),
        config(RunConfig::read(run / "config.json")),
        vocabulary(data::WordPiece::read(run / "vocab.txt")),
        model(checked_model()) {
    const io::Safetensors stored = read_weights();
    checksum = io::checksum_text(stored.bytes());
    check_belongs(stored, config, vocabulary_hash(run), run);
    unused = load_model(stored, weights, checksum, model).unexpected;
  }
  data::Cleaning cleaning() const { return data::cleaning_from(config.cleaning); }
  /// Images of one study or file as the model sees them in evaluation: (B, 3, S, S).
  Tensor<T, B> load_images(const std::vector<std::filesystem::path>& paths) const {
    std::vector<xt::xtensor<float, 2>> images;
    for (const auto& path : paths) images.push_back(read_image(path));
    return upload(images);
  }
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
  Tensor<T, B> upload(const std::vector<xt::xtensor<float, 2>>& images) const {
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
    return data::upload_images<T, B>(grey);
  }

 private:
  /// A run that is still training replaces its best weights: then the new ones are read.
  io::Safetensors read_weights() {
    for (int left = 10;; --left) try {
        return io::Safetensors::read(weights);
      } catch (const Error&) {
        const auto now = weights_of(folder);
        if (now == weights || left == 0) throw;
        weights = now;
      }
  }
  Model checked_model() const {
    config.model.validate();
    if (static_cast<Index>(vocabulary.size()) != config.model.vocab)
      fail("train", "run",
           folder.string() + ": vocab.txt has " + std::to_string(vocabulary.size()) +
               " tokens, config.json says " + std::to_string(config.model.vocab));
    return model::make_hybridmed<T, B>(config.model);
  }
};

}  // namespace hybridmed::train
