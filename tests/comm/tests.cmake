tmd_mpi_test(comm/self_check_mpi_test DEPENDS comm)
tmd_mpi_test(comm/agree_mpi_test DEPENDS comm)
tmd_test(comm/journal_test DEPENDS comm)
