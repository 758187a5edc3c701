# Copyright 2026 The kuavo_bag_converter maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""All topics of a robot: when they are published, and what their messages say."""

from __future__ import annotations

from dataclasses import replace

from kuavo_bag_converter.sample.cameras import cameras
from kuavo_bag_converter.sample.end_effectors import end_effectors
from kuavo_bag_converter.sample.extras import extras
from kuavo_bag_converter.sample.joints import body, whole_body
from kuavo_bag_converter.sample.options import SampleOptions
from kuavo_bag_converter.sample.robot import SampleTimeline
from kuavo_bag_converter.sample.topic import Topic
from kuavo_bag_converter.support.errors import UsageError


def robot_topics(options: SampleOptions, timeline: SampleTimeline) -> list[Topic]:
    """
    Return the topics that a robot with these options records.

    :raises UsageError: ``starts`` or ``gaps`` name a topic that is not among them.
    """
    topics = [
        *body(options, timeline),
        *end_effectors(options, timeline),
        *(whole_body(options, timeline) if options.whole_body else ()),
        *cameras(options),
        *(extras(timeline) if options.extras else ()),
    ]
    names = {topic.name for topic in topics if not topic.clock}
    for option in ('starts', 'gaps'):
        for name in getattr(options, option):
            if name not in names:
                raise UsageError(
                    f'sample: {option} names {name}, which is not among the topics: '
                    f'{", ".join(sorted(names))}'
                )
    return [_timed(topic, options) for topic in topics]


def _timed(topic: Topic, options: SampleOptions) -> Topic:
    own = topic.clock or topic.name
    timing = replace(
        topic.timing,
        start_s=options.starts.get(own, topic.timing.start_s),
        gaps_s=tuple(options.gaps.get(own, ())),
    )
    return replace(topic, timing=timing)
