// Runs a model that Python compiled and saved, in a program without Python.
//
//   run_model model.pt2 1 4 9     runs it with a batch of 1, of 4 and of 9
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/torch.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

int main(int count, char** arguments) {
  if (count < 3) {
    std::fprintf(stderr, "usage: %s MODEL.pt2 BATCH [BATCH ...]\n", arguments[0]);
    return 2;
  }
  try {
    const c10::InferenceMode no_gradients;
    torch::inductor::AOTIModelPackageLoader model(arguments[1]);
    for (int place = 2; place < count; ++place) {
      const int64_t batch = std::atoll(arguments[place]);
      const auto x = torch::arange(batch * 64, torch::kFloat).div(64 * batch).reshape({batch, 64});
      const auto y = model.run({x}).at(0);
      std::printf("batch %lld:", static_cast<long long>(batch));
      for (int64_t at = 0; at < y.size(1); ++at) {
        std::printf(" %.5f", y[batch - 1][at].item<float>());
      }
      std::printf("\n");
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
