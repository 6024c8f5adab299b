tmd_test(configs/nearest_test DEPENDS configs)
tmd_test(configs/option_codec_test DEPENDS configs)
tmd_test(configs/option_table_test DEPENDS configs)
