#include "data/toy_spec.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace tmd::data {
namespace {

using nlohmann::json;

// The generator object when it is of toy `name`, else null.
json generator_of(const LatentHeader& header, const char* name) {
  if (header.generator.empty()) return nullptr;
  const json generator = json::parse(header.generator, nullptr, /*allow_exceptions=*/false);
  return generator.is_object() && generator.value("toy", json()) == json(name) ? generator : json(nullptr);
}

template <class Enum>
std::vector<Enum> named(const json& list, std::initializer_list<Enum> all) {
  std::vector<Enum> result;
  for (const std::string& text : list.get<std::vector<std::string>>()) {
    const auto found = std::find_if(all.begin(), all.end(), [&](Enum value) { return name(value) == text; });
    check(found != all.end(), ErrorKind::kData, "the generator of the toy file has an unknown name " + text);
    result.push_back(*found);
  }
  return result;
}

}  // namespace

std::optional<ToyShapesSpec> toy_shapes_spec(const LatentHeader& header) {
  const json g = generator_of(header, "shapes");
  if (g.is_null()) return std::nullopt;
  try {
    ToyShapesSpec spec;
    spec.frames = header.video_frames;
    spec.size = header.video_height;
    spec.shapes = named(g.at("shapes"), {ToyShape::kDisc, ToyShape::kSquare, ToyShape::kTriangle,
                                         ToyShape::kCross, ToyShape::kWideBar, ToyShape::kTallBar});
    spec.motions = named(g.at("motions"), {ToyMotion::kRight, ToyMotion::kLeft, ToyMotion::kDown,
                                           ToyMotion::kUp, ToyMotion::kDownRight, ToyMotion::kUpRight,
                                           ToyMotion::kDownLeft, ToyMotion::kUpLeft, ToyMotion::kHorizontal,
                                           ToyMotion::kVertical, ToyMotion::kStill});
    spec.colours = g.at("colours");
    spec.speeds = g.at("speeds").get<std::vector<double>>();
    spec.radius_min = g.at("radius").at(0);
    spec.radius_max = g.at("radius").at(1);
    spec.brightness_min = g.at("brightness_min");
    spec.edge_width = g.at("edge_width");
    spec.text_rows = header.text_shape[0];
    spec.text_features = header.text_shape[1];
    spec.validate();
    return spec;
  } catch (const json::exception& e) {
    throw Error(ErrorKind::kData, std::string("the generator of the toy file is garbled: ") + e.what());
  }
}

std::optional<ToyMixtureSpec> toy_mixture_spec(const LatentHeader& header) {
  const json g = generator_of(header, "mixture");
  if (g.is_null()) return std::nullopt;
  const json equal = g.value("equal_weights", json(true));
  check(equal.is_boolean(), ErrorKind::kData,
        "the generator of the toy file is garbled: equal_weights is " + equal.dump());
  return ToyMixtureSpec{.equal_weights = equal.get<bool>()};
}

}  // namespace tmd::data
