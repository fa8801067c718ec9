"""ultralytics: YOLOv8n trains an epoch from its configuration, is validated and predicts: `yolo.py DATA.yaml`."""

import sys

from ultralytics import YOLO

model = YOLO("yolov8n.yaml")
model.train(data=sys.argv[1], epochs=1, imgsz=160, batch=8, workers=0, device=0, amp=False, plots=False, val=True,
            project="/tmp/yolo_runs", exist_ok=True, verbose=False)  # fmt: skip
print("validated", model.val(data=sys.argv[1], imgsz=160, batch=4, workers=0, device=0, plots=False).box.map)
