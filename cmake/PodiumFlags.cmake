# Warnings and hardening for every target, sanitizers by preset.
option(PD_TESTS "build the unit tests" ON)
option(PD_WERROR "warnings are errors" OFF)
option(PD_UI "build and embed the web front end (needs npm)" ON)
set(PD_SANITIZE "" CACHE STRING "address;undefined | thread | fuzzer")

add_compile_options(
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes
    -Wmissing-prototypes -Wformat=2 -Wvla -Wundef -Wnull-dereference -Wno-format-nonliteral
    -fno-math-errno -fno-trapping-math)
# Messages are cut to their buffer on purpose; only gcc has the warning, and the name.
if(CMAKE_C_COMPILER_ID STREQUAL GNU)
    add_compile_options(-Wno-format-truncation)
endif()
if(PD_WERROR)
    add_compile_options(-Werror)
endif()
if(PD_SANITIZE)
    string(REPLACE ";" "," _san "${PD_SANITIZE}")
    add_compile_options(-fsanitize=${_san} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${_san})
else()
    add_compile_options(-fstack-protector-strong)
    add_compile_definitions($<$<NOT:$<CONFIG:Debug>>:_FORTIFY_SOURCE=2>)
    add_link_options(-Wl,-z,relro,-z,now -pie)
endif()
add_compile_definitions(_GNU_SOURCE)
find_program(CCACHE ccache)
if(CCACHE)
    set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()
