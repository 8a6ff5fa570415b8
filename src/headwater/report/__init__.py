"""The report: a whole study on one self-contained HTML page; and the doctor's page.

data.py   what a report is made of            page.py   that, as HTML (page.html, page.css)
plots.py  numbers -> matplotlib charts        svg.py    a chart as SVG that follows the page's theme
views.py  tables and bars as the page shows them
frame.py  what all pages share                doctor.py  findings of the doctor, as HTML
label.py  pictures to be labelled, as HTML     calibration.py  pairs around a threshold, as HTML
composition.py  what captions say of each class, as a map
"""

from headwater.report.data import ReportData
from headwater.report.page import render_report

__all__ = ["ReportData", "render_report"]
