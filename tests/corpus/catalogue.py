"""The corpus of bad inputs: every entry, what becomes of it, and which tests show it.

Tests are named by file below `tests/`, function, and case, as in `corpus/test_coco.py::test_bytes[C1]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["refused", "counted", "ok", "n/a"]


@dataclass(frozen=True)
class Entry:
    """One bad input.

    Attributes:
        what: The input.
        verdict: `refused` with an exit code, `counted` and read, `ok`, or `n/a`: biasbench reads no such thing.
        code: Exit code of a refusal.
        tests: That show it; none for n/a.
        why: Of n/a, or of a verdict that may surprise.
    """

    what: str
    verdict: Verdict
    code: int | None
    tests: tuple[str, ...]
    why: str = ""


def refused(code: int, what: str, *tests: str, why: str = "") -> Entry:
    return Entry(what, "refused", code, tests, why)


def counted(what: str, *tests: str, why: str = "") -> Entry:
    return Entry(what, "counted", None, tests, why)


def ok(what: str, *tests: str, why: str = "") -> Entry:
    return Entry(what, "ok", None, tests, why)


def absent(what: str, why: str) -> Entry:
    return Entry(what, "n/a", None, (), why)


def coco(test: str) -> str:
    return f"corpus/test_coco.py::{test}"


def images(test: str) -> str:
    return f"corpus/test_images.py::{test}"


def imsitu(test: str) -> str:
    return f"corpus/test_imsitu.py::{test}"


def faces(test: str) -> str:
    return f"corpus/test_faces.py::{test}"


def cli(test: str) -> str:
    return f"corpus/test_cli.py::{test}"


def plugins(test: str) -> str:
    return f"corpus/test_plugins.py::{test}"


def sandbox(test: str) -> str:
    return f"corpus/test_sandbox.py::{test}"


def weights(test: str) -> str:
    return f"corpus/test_weights.py::{test}"


COCO = {
    "C1": refused(4, "empty file", coco("test_bytes[C1]")),
    "C2": refused(4, "{}", coco("test_bytes[C2]")),
    "C3": refused(4, "a list at the top", coco("test_bytes[C3]")),
    "C4": refused(4, "cut at half", coco("test_bytes[C4]")),
    "C5": ok("a byte-order mark", coco("test_c5_a_byte_order_mark_is_read")),
    "C6": refused(4, "UTF-16", coco("test_bytes[C6]")),
    "C7": refused(4, "a Latin-1 byte in a name", coco("test_bytes[C7]")),
    "C8": refused(4, "10,000 opening brackets", coco("test_bytes[C8]"), coco("test_bytes[C8, aside]")),
    "C9": refused(4, "NaN in a box", coco("test_bytes[C9]")),
    "C10": refused(
        4, "1e999", coco("test_bytes[C10]"), coco("test_bytes[C10, polygon]"),
        why="in boxes and polygons; `area` is not read",
    ),
    "C11": refused(4, "a key twice in one object", coco("test_bytes[C11]")),
    "C12": refused(4, "an image id twice", coco("test_objects[C12]")),
    "C13": refused(4, "an annotation id twice", coco("test_objects[C13]")),
    "C14": refused(4, "an annotation of a missing image", coco("test_objects[C14]")),
    "C15": refused(4, "an annotation of a missing category", coco("test_objects[C15]")),
    "C16": refused(4, "image ids as text and number", coco("test_objects[C16]")),
    "C17": refused(
        4, "ids true, 1.0, 2**70, a list", coco("test_objects[C17, bool]"), coco("test_objects[C17, float]"),
        coco("test_objects[C17, large]"), coco("test_objects[C17, list]"),
    ),
    "C18": refused(4, "annotations: null", coco("test_objects[C18]")),
    "C19": refused(4, "images as an object", coco("test_objects[C19]")),
    "C20": refused(4, "two categories of one name", coco("test_objects[C20]")),
    "C21": ok(
        "hostile names of categories", coco("test_c21_names_of_categories_are_shown_escaped"),
        "corpus/test_names.py::test_the_check_of_a_data_set",
    ),
    "C22": counted("boxes negative, empty, outside", coco("test_c22_boxes_outside_their_image_are_counted")),
    "C23": refused(4, "run lengths of another size", coco("test_objects[C23]")),
    "C24": refused(4, "run lengths of size 2**31 by 2**20", coco("test_objects[C24]")),
    "C25": refused(4, "run lengths of a wrong sum", coco("test_objects[C25]"), coco("test_objects[C25, text]")),
    "C26": refused(4, "a polygon of 10**6 numbers, or NaN", coco("test_objects[C26]"), coco("test_bytes[C26, NaN]")),
    "C27": refused(
        4, "hostile file names, and what is no regular file", coco("test_objects[C27, ../]"),
        coco("test_objects[C27, absolute]"), coco("test_objects[C27, NUL]"), coco("test_objects[C27, URL]"),
        coco("test_objects[C27, 300 chars]"), coco("test_objects[C27, environ]"), coco("test_objects[C27, zero]"),
        coco("test_objects[C27, dots]"), coco("test_places_of_images[C27, link out]"),
        coco("test_places_of_images[C27, folder]"), coco("test_places_of_images[C27, pipe]"),
        "test_io.py::test_hostile_names_are_refused",
    ),
    "C28": refused(4, "captions in place of instances", coco("test_objects[C28]")),
    "C29": refused(4, "val given as train", coco("test_objects[C29]")),
    "C30": absent(
        "one photograph in train and val under two ids",
        "nobody has published which images of COCO are copies, and a release that cannot be trained on helps nobody",
    ),
    "C31": absent("a file of 1.5 GB", "too long for a test: `benchmarks/perf/coco_size.py` reads a release's size"),
    "C32": ok("both genders in the captions", coco("test_c32_both_genders_in_the_captions_are_excluded_and_counted")),
}  # fmt: skip

IMSITU = {
    "S1": refused(4, "a verb that the space lacks", imsitu("test_objects[S1]")),
    "S2": counted("no agent", imsitu("test_s2_and_s12_an_agent_that_is_absent_or_null_is_dropped_and_counted")),
    "S3": refused(4, "a noun that the space lacks", imsitu("test_objects[S3]"), why="files of one release have all"),
    "S4": ok("frames that disagree", imsitu("test_s4_frames_that_disagree_are_dropped_and_counted")),
    "S5": refused(4, "an image twice", imsitu("test_bytes[S5]")),
    "S6": refused(4, "no frames", imsitu("test_objects[S6]")),
    "S7": ok("a name without an ending", imsitu("test_s7_a_name_without_an_ending_is_a_name")),
    "S8": ok("records in another order", imsitu("test_s8_the_order_of_records_changes_nothing")),
    "S9": refused(4, "../x.jpg", imsitu("test_objects[S9]")),
    "S10": refused(4, "a pickle named .json", imsitu("test_bytes[S10]"), imsitu("test_bytes[S10, binary]")),
    "S11": refused(4, "test is dev", imsitu("test_objects[S11]")),
    "S12": counted("null in a frame", imsitu("test_s2_and_s12_an_agent_that_is_absent_or_null_is_dropped_and_counted")),
}

IMDB = {
    "M1": refused(4, "empty", faces("test_mat_files[M1]")),
    "M2": refused(
        4, "cut at ten places", faces("test_mat_files[M2, header]"), faces("test_mat_files[M2, tag]"),
        "builtin/test_imdb_strict.py::test_every_cut_is_told",
    ),
    "M3": refused(4, "version 7.3", faces("test_mat_files[M3]")),
    "M4": refused(4, "mutants that end scipy's reader", sandbox("test_m4_mutants_that_end_scipys_reader_are_a_line")),
    "M5": refused(4, "endless reading", sandbox("test_every_death_is_one_line_with_the_file[endless]")),
    "M6": refused(4, "no struct imdb", faces("test_m6_m7_other_variables[misspelt]")),
    "M7": refused(4, "wiki in place of imdb", faces("test_m6_m7_other_variables[the other part]")),
    "M8": refused(4, "fields of different lengths", faces("test_structs[M8]")),
    "M9": refused(
        4, "gender 0.5 or 2", faces("test_structs[M9, half]"), faces("test_structs[M9, two]"),
        faces("test_m9_m10_m11_defects_are_excluded_and_counted"),
        why="the release has 0, 1 and NaN: NaN is counted, another number is another file",
    ),
    "M10": ok("impossible dates", faces("test_m9_m10_m11_defects_are_excluded_and_counted")),
    "M11": ok("no face found", faces("test_m9_m10_m11_defects_are_excluded_and_counted")),
    "M12": absent("face_location outside its image", "the field is not read: the release's crops are used"),
    "M13": refused(4, "full_path that leaves its folder", faces("test_structs[M13]")),
    "M14": refused(4, "celeb_id out of range", faces("test_structs[M14]"), faces("test_structs[M14, nobody]")),
    "M15": ok(
        "a celebrity in train and test", "builtin/test_imdb.py::test_all_photos_of_a_person_are_in_one_split",
        why="splits are made by identity",
    ),
    "M16": refused(4, "a billion declared elements", sandbox("test_a_hostile_matrix[M16]")),
    "M17": refused(4, "another variable in its place", faces("test_mat_files[M17]")),
    "M18": refused(4, "a function or an opaque object", faces("test_m18_functions_and_objects")),
    "M19": refused(4, "a compressed bomb", "builtin/test_imdb_strict.py::test_damaged_files[bomb]"),
}  # fmt: skip

LAOFIW = {
    "L1": refused(4, "a folder is missing", faces("test_l1_a_folder_of_an_origin_is_missing")),
    "L2": refused(4, "a list without images", faces("test_l2_l3_images_are_missing")),
    "L3": refused(4, "fewer images than listed", faces("test_l2_l3_images_are_missing")),
    "L4": refused(4, "a web page named .jpg", faces("test_files_that_are_no_images[L4]")),
    "L5": counted("placeholders of 1 pixel", faces("test_l5_l9_copies_and_placeholders_are_counted"), why="as copies"),
    "L6": ok("names that differ by case", faces("test_l6_l7_line_ends_quotes_and_case")),
    "L7": ok(
        "CR LF, quotes; semicolons are refused", faces("test_l6_l7_line_ends_quotes_and_case"),
        faces("test_lists[L7, semicolons]"),
    ),
    "L8": refused(4, "unknown codes", faces("test_lists[L8]"), faces("test_lists[L8, folder]")),
    "L9": counted(
        "one image under two labels", faces("test_l5_l9_copies_and_placeholders_are_counted"),
        why="the lists that can be obtained have some; one file twice in a list is refused",
    ),
    "L10": refused(4, "empty files", faces("test_files_that_are_no_images[L10]")),
}  # fmt: skip

AFLW = {
    "A1": refused(4, "no database", faces("test_databases[A1]")),
    "A2": refused(4, "cut", faces("test_databases[A2]")),
    "A3": refused(4, "a flipped page", faces("test_databases[A3]"), faces("test_databases[A3, order]")),
    "A4": absent("a flip that the database's own check lets pass", "no hash of the release is published"),
    "A5": refused(4, "a view in place of a table", faces("test_statements[A5]")),
    "A6": ok("a trigger", faces("test_a6_a14_triggers_never_fire_and_nothing_is_written"), why="nothing is written"),
    "A7": refused(4, "an endless view", faces("test_statements[A7]")),
    "A8": refused(4, "a generated column", faces("test_statements[A8]")),
    "A9": refused(
        4, "sex as bytes, number, 'M '", faces("test_rows[A9, blob]"), faces("test_rows[A9, number]"),
        faces("test_rows[A9, space]"),
    ),
    "A10": refused(4, "a face twice", "builtin/test_aflw_strict.py::test_a_face_twice"),
    "A11": refused(4, "a face without its image's row", faces("test_rows[A11]"), why="tables contradict each other"),
    "A12": refused(4, "a path that leaves its folder", faces("test_rows[A12]")),
    "A13": refused(4, "a journal beside it", faces("test_a13_a_journal_beside_it_is_not_ignored")),
    "A14": ok("a read-only medium", faces("test_a6_a14_triggers_never_fire_and_nothing_is_written")),
    "A15": refused(4, "encrypted", faces("test_databases[A15]")),
    "A16": refused(4, "10**8 rows through a view", faces("test_statements[A16]")),
    "A17": refused(4, "text that is not UTF-8", faces("test_statements[A17]")),
}  # fmt: skip

IMAGES = {
    "I1": refused(4, "0 bytes", images("test_refused[I1]")),
    "I2": refused(4, "JPEG cut at 25 places", images("test_refused")),
    "I3": refused(4, "PNG cut", images("test_refused")),
    "I4": refused(4, "PNG of a wrong checksum", images("test_refused[I4]")),
    "I5": refused(4, "14,000 by 14,000", images("test_refused[I5]")),
    "I6": refused(4, "9,400 by 9,400", images("test_refused[I6]")),
    "I7": refused(4, "PostScript named .jpg", images("test_refused[I7]")),
    "I8": refused(
        4, "TIFF, PSD, ICO, GIF named .jpg", images("test_refused[I8, tiff]"), images("test_refused[I8, psd]"),
        images("test_refused[I8, ico]"), images("test_refused[I8, gif]"),
    ),
    "I9": ok("CMYK, YCCK", images("test_read[I9, CMYK]"), images("test_read[I9, YCCK]")),
    "I10": ok(
        "16 bits, palette with alpha, 1 bit", images("test_read[I10, 16 bits]"),
        images("test_read[I10, palette with alpha]"), images("test_read[I10, 1 bit]"),
    ),
    "I11": ok("turned by EXIF", images("test_read[I11]"), "test_images.py::test_exif_orientation_is_ignored"),
    "I12": refused(4, "65,535 by 1", images("test_refused[I12]")),
    "I13": ok("a colour profile of garbage", images("test_read[I13]")),
    "I14": refused(4, "10 MB of metadata", images("test_refused[I14, JPEG]"), images("test_refused[I14, PNG]")),
    "I15": ok("JPEG and ZIP at once", images("test_read[I15]")),
    "I16": refused(4, "deleted meanwhile", images("test_i16_a_file_that_is_deleted_between_scan_and_read_is_named")),
    "I17": refused(4, "changed meanwhile", images("test_i17_a_file_that_changes_in_between_is_noticed")),
    "I18": refused(4, "a loop of links", images("test_i18_a_loop_of_links_is_named")),
    "I19": refused(4, "no permission", images("test_i19_a_file_that_may_not_be_read_is_named")),
}  # fmt: skip

COMMANDS = {
    "K1": refused(
        2, "an unknown key", cli("test_benchmark_files[K1]"), cli("test_benchmark_files[K1, row]"),
        cli("test_configurations[K1]"), cli("test_options[K1]"),
    ),
    "K2": refused(2, "a wrong type", cli("test_benchmark_files[K2]"), cli("test_configurations[K2]")),
    "K3": refused(
        2, "seeds [1, 1]", cli("test_benchmark_files[K3]"), cli("test_k3_what_is_said_twice_is_run_once"),
        why="in a file; an option that is given twice counts once",
    ),
    "K4": refused(
        2, "a learning rate below 0, NaN, infinite", cli("test_benchmark_files[K4, nan]"),
        cli("test_benchmark_files[K4, negative]"), cli("test_options[K4, inf]"),
    ),
    "K5": refused(2, "seeds 0..10**9", cli("test_options[K5]"), cli("test_benchmark_files[K5]")),
    "K6": refused(2, "a YAML bomb", cli("test_benchmark_files[K6]"), why="files are TOML, which has no anchors"),
    "K7": refused(
        2, "YAML that makes objects", cli("test_benchmark_files[K7]"),
        "corpus/test_source.py::test_nothing_that_is_read_is_run",
    ),
    "K8": refused(2, "a key twice", cli("test_benchmark_files[K8]"), cli("test_configurations[K8]")),
    "K9": refused(
        2, "empty, tabs, Latin-1; a mark is read", cli("test_benchmark_files[K9, empty]"),
        cli("test_benchmark_files[K9, tabs]"), cli("test_benchmark_files_that_are_read"),
        cli("test_k9_an_empty_configuration_and_one_with_a_mark_are_read"),
    ),
    "K10": refused(
        2, "no, 1e3, true, dates", cli("test_benchmark_files[K10, no]"), cli("test_benchmark_files[K10, 1e3]"),
        cli("test_benchmark_files[K10, true]"), cli("test_benchmark_files[K10, date]"),
        why="0o7 is a number in TOML, and read",
    ),
    "K11": ok("a variable in a path", cli("test_k11_a_variable_in_a_path_is_a_name_like_any"), why="as it stands"),
    "K12": refused(2, "two methods of one name", plugins("test_p6_two_distributions_with_one_name")),
    "K13": refused(4, "no data root", cli("test_k13_a_data_root_that_is_nowhere")),
    "K14": refused(
        5, "results in a file, /proc, read-only, 300 characters, a line feed",
        cli("test_k14_a_file_in_place_of_the_folder"), cli("test_k14_a_place_that_holds_no_files"),
        cli("test_k14_a_folder_that_may_not_be_written"), cli("test_k14_a_name_that_drives_the_terminal"),
        cli("test_options[K14, long]"), why="a path that no folder can have is wrong usage: 2",
    ),
    "K15": refused(2, "a device that is nowhere", cli("test_options[K15, device]"), cli("test_options[K15, unknown]")),
    "K16": refused(2, "--jobs 0, -1", cli("test_options[K16]"), cli("test_options[K16, negative]")),
    "K17": refused(2, "the output exists", weights("test_k17_names_that_cannot_be_meant")),
    "K18": ok("a pipe whose reader leaves", cli("test_k18_the_reader_of_a_pipe_leaves")),
    "K19": ok(
        "closed streams, a dumb terminal", cli("test_k19_streams_that_are_closed"),
        cli("test_k19_a_dumb_and_narrow_terminal"),
        cli("test_k19_nothing_is_written_into_a_file_that_takes_a_closed_stream"),
    ),
    "K20": refused(
        2, "no home; the working folder is gone", cli("test_k20_no_home"), cli("test_k20_the_working_folder_is_gone"),
        why="without a home everything works",
    ),
}  # fmt: skip

BESIDE = "test_broken_plugins_are_named_and_stop_nobody"
FOREIGN = "corpus/test_sweep.py::test_each_fails_by_its_name_and_nobody_else"
PLUGINS = {
    "P1": refused(2, "ImportError", plugins("test_a_broken_file_is_refused"), plugins(BESIDE)),
    "P2": refused(2, "SyntaxError", plugins("test_a_broken_file_is_refused"), plugins(BESIDE)),
    "P3": refused(2, "sys.exit(0) on import", plugins("test_a_broken_file_is_refused")),
    "P4": refused(2, "os._exit(0) on import", plugins("test_a_broken_file_is_refused")),
    "P5": refused(2, "the name of a built-in", plugins("test_misused_hooks_are_refused")),
    "P6": refused(2, "two distributions, one name", plugins("test_p6_two_distributions_with_one_name")),
    "P7": refused(2, "an argument that a hook has not", plugins("test_misused_hooks_are_refused")),
    "P8": refused(2, "a misspelt hook", plugins("test_misused_hooks_are_refused")),
    "P9": refused(2, "a hook raises", plugins(BESIDE)),
    "P10": ok(
        "a slow import", plugins("test_p10_a_slow_import_is_waited_for_and_ctrl_c_ends_it"),
        why="a cold file system is slow too; Ctrl-C ends it",
    ),
    "P11": refused(
        1, "patches and seeds", "zoo/test_zoo.py::test_it_is_void_and_the_reason_is_named",
        "zoo/test_zoo.py::test_it_predicts_what_an_honest_method_does",
    ),
    "P12": refused(2, "made for another version", plugins(BESIDE)),
    "P13": refused(1, "answers of a wrong shape, type, length", FOREIGN),
    "P14": refused(1, "a lazy answer; a class of tensors is fine", FOREIGN),
    "P15": ok("a view of its input", FOREIGN),
    "P16": refused(1, "KeyboardInterrupt in a cell", FOREIGN),
    "P17": refused(1, "a segmentation fault in a cell", FOREIGN),
    "P18": absent("1 GB more at each call", "minutes long: the campaign's promise `hostile-plugins`"),
    "P19": refused(1, "changes the process's settings", "zoo/test_zoo.py::test_it_is_void_and_the_reason_is_named"),
    "P20": refused(1, "writes into data or results", "zoo/test_zoo.py::test_it_is_void_and_the_reason_is_named"),
}  # fmt: skip

STORES = {
    "T1": refused(
        4, "code in a file of weights", weights("test_what_is_no_plain_state_is_refused"),
        weights("test_t1_a_pickle_among_our_checkpoints_is_not_read"),
    ),
    "T2": refused(
        4, "claims more than it has", weights("test_what_is_no_plain_state_is_refused"),
        weights("test_a_file_that_unfolds_beyond_its_limit_costs_nothing"), weights("test_safetensors_that_lie"),
    ),
    "T3": refused(
        4, "cut", weights("test_what_is_no_plain_state_is_refused"), weights("test_safetensors_that_lie"),
        "test_checkpoint.py::test_a_damaged_checkpoint_gives_way_to_the_one_before",
    ),
    "T4": refused(
        6, "a flipped bit", weights("test_t4_one_bit_of_a_weights_file_is_noticed"),
        "test_checkpoint.py::test_tensors_are_checked_before_use",
    ),
    "T5": refused(4, "missing, further, renamed tensors", "test_weights.py::test_files_that_do_not_fit_say_why"),
    "T6": refused(4, "tensors of another shape", "test_weights.py::test_files_that_do_not_fit_say_why"),
    "T7": refused(4, "NaN in weights", weights("test_what_is_no_plain_state_is_refused")),
    "T8": absent("the optimiser of another method", "checkpoints lie in a folder named by the training's key"),
    "T9": absent("the checkpoint of another cell", "checkpoints lie in a folder named by the training's key"),
    "T10": refused(
        5, "a damaged, foreign or newer store", "test_store.py::test_a_foreign_folder_is_refused",
        "test_store.py::test_a_newer_store_is_refused",
        "test_store.py::test_a_flipped_bit_in_a_prediction_is_noticed",
        "cli/test_verify.py::test_a_damaged_cell_is_named_and_the_others_are_checked",
    ),
    "T11": absent("bundles", "there is no import of bundles"),
}  # fmt: skip

GROUPS = {
    "C": (COCO, 32), "S": (IMSITU, 12), "M": (IMDB, 19), "L": (LAOFIW, 10), "A": (AFLW, 17), "I": (IMAGES, 19),
    "K": (COMMANDS, 20), "P": (PLUGINS, 20), "T": (STORES, 11),
}  # fmt: skip
CATALOGUE = {number: entry for group, _ in GROUPS.values() for number, entry in group.items()}
