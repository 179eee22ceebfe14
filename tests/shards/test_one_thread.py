import threading

import cv2
import pytest

from shards.one_thread import one_opencv_thread


@pytest.fixture
def two_threads():
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    yield
    cv2.setNumThreads(before)


def test_the_number_is_restored_when_the_last_has_left(two_threads):
    entered, leave = threading.Event(), threading.Event()

    def stay():
        with one_opencv_thread():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=stay)
    with one_opencv_thread():
        other.start()
        assert entered.wait(10)
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == 1
    leave.set()
    other.join()
    assert cv2.getNumThreads() == 2
    with pytest.raises(KeyError), one_opencv_thread():
        raise KeyError
    assert cv2.getNumThreads() == 2
