// A consumer of the optional components: weights through io, a picture and a table through data.
#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/io/weights.hpp>
#include <hybridmed/nn/layers.hpp>
#ifdef CONSUMER_DATA
#include <hybridmed/data/csv.hpp>
#include <hybridmed/data/image.hpp>
#endif

#include <cstdio>

int main() {
  using namespace hybridmed;
  using B = Reference;
  const std::filesystem::path folder = std::filesystem::current_path();

  nn::Linear<double, B> written(3, 2), read(3, 2);
  written.weight.value =
      Tensor<double, B>::from_host(std::vector<double>{1, 2, 3, 4, 5, 6}, {2, 3});
  io::SafetensorsWriter file;
  io::add_weights(file, written);
  file.write(folder / "weights.safetensors");
  if (!io::load_weights(read, io::Safetensors::read(folder / "weights.safetensors")).complete()) {
    std::puts("weights are missing");
    return 1;
  }
  if (read.weight.value.to_host() != written.weight.value.to_host()) {
    std::puts("other weights came back");
    return 1;
  }

#ifdef CONSUMER_DATA
  const std::vector<std::uint8_t> pixels{0, 50, 100, 150, 200, 250};
  data::write_png(folder / "picture.png", pixels.data(), 3, 2, 1);
  const data::Image image = data::read_image(folder / "picture.png");
  if (image.width() != 3 || image.height() != 2 || image.pixels(1, 2) != 250) {
    std::puts("another picture came back");
    return 1;
  }
  if (data::parse_csv("study,text\n1,\"a, b\"\n", "a table").rows.at(0).at(1) != "a, b") {
    std::puts("another field came back");
    return 1;
  }
#endif
  std::puts("components work");
}
