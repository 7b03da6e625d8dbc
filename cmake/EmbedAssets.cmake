# pd_embed_assets(TARGET DIST): the files under DIST, gzip'd, as one object file in the static library
# TARGET that defines pd_assets_table (net/assets.h). An empty or missing DIST makes an empty table.
find_package(Python3 REQUIRED COMPONENTS Interpreter)

function(pd_embed_assets target dist)
    set(dir ${CMAKE_CURRENT_BINARY_DIR}/${target})
    add_custom_command(
        OUTPUT ${dir}/assets_table.c
        COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/scripts/embed-assets ${dist} ${dir}
        DEPENDS ${CMAKE_SOURCE_DIR}/scripts/embed-assets ${ARGN}
        COMMENT "Embedding the front end"
        VERBATIM)
    add_library(${target} STATIC ${dir}/assets_table.c)
    target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(${target} PUBLIC pd_net)
    target_compile_options(${target} PRIVATE -Wno-missing-prototypes -Wno-pedantic)
endfunction()
