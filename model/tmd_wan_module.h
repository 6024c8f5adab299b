#pragma once

#include <string_view>

namespace tmd::model {

/// The text of model/python/tmd_wan.py, which loads and samples an exported student; exports carry it.
std::string_view tmd_wan_module();

}  // namespace tmd::model
