# pd_library(NAME dep...): src/NAME/*.c becomes the static library pd_NAME, linked to deps.
function(pd_library name)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.c)
    if(NOT sources)
        add_library(pd_${name} INTERFACE)
        target_link_libraries(pd_${name} INTERFACE ${ARGN})
        return()
    endif()
    add_library(pd_${name} STATIC ${sources})
    target_include_directories(pd_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(pd_${name} PUBLIC ${ARGN})
endfunction()

# pd_test(FOLDER NAME): tests/unit/FOLDER/test_NAME.c becomes a ctest program linked to pd_FOLDER.
function(pd_unit_tests folder)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/${folder}/test_*.c)
    foreach(source ${sources})
        get_filename_component(name ${source} NAME_WE)
        set(target ${folder}_${name})
        add_executable(${target} ${source})
        target_link_libraries(${target} PRIVATE pd_${folder} PkgConfig::CMOCKA m)
        target_compile_definitions(${target} PRIVATE
            PD_FIXTURES="${CMAKE_SOURCE_DIR}/tests/fixtures")
        target_compile_options(${target} PRIVATE -Wno-missing-prototypes -Wno-unused-parameter)
        add_test(NAME ${folder}/${name} COMMAND ${target})
        set_tests_properties(${folder}/${name} PROPERTIES TIMEOUT 300 LABELS unit
            ENVIRONMENT GOMP_SPINCOUNT=1000) # threads that wait leave the cores to other tests
    endforeach()
endfunction()
