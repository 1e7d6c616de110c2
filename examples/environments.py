"""Gymnasium environments as actors, one against several: `python -m examples.environments`.

An environment lives in its actor; the policy runs here, and each step is one remote call. Several
environments advance in parallel: all their steps are called before the first answer is read.
"""

import time
from dataclasses import dataclass

import gymnasium

import celery_actors as ca
from examples.runner import run

GAME_POINTS = 21
POLE_STEPS = 200  # a pole pushed at random falls after some twenty
SEVERAL = 4


@ca.remote
class Environment:
    def __init__(self, name, **options):
        if name.startswith("ALE/"):
            import ale_py

            ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner for each actor
            gymnasium.register_envs(ale_py)
        self.environment = gymnasium.make(name, **options)

    def reset(self, seed):
        observation, _ = self.environment.reset(seed=seed)
        return observation

    def step(self, action):
        observation, reward, terminated, truncated, _ = self.environment.step(action)
        return observation, float(reward), terminated or truncated


def follow_the_ball(memory):
    """Choose a Pong action from the console's 128 bytes: keep the paddle's lower end at the ball.

    A ball hit there flies back steeply, so rallies and games are short.
    """
    ball, paddle = int(memory[54]), int(memory[51]) + 15
    if ball == 0 or abs(ball - paddle) <= 8:
        return 0  # no ball in play, or near enough: stay
    return 2 if ball < paddle else 3  # up, down


def balance(observation):
    """Choose a CartPole action: push to the side the pole is falling to."""
    _, _, angle, angular_velocity = observation
    return int(angle + 0.5 * angular_velocity > 0)


@dataclass(frozen=True)
class Played:
    won: list[int]  # positive rewards of each episode, summed
    lost: list[int]  # negative ones, as a positive number
    steps: int
    seconds: float

    @property
    def steps_per_s(self) -> float:
        return self.steps / self.seconds


def play(environments, policy, seeds) -> Played:
    """Play one whole episode in each environment, all at the same time."""
    resets = [env.reset.remote(seed) for env, seed in zip(environments, seeds, strict=True)]
    observations = dict(enumerate(ca.get(resets)))
    won, lost = [0] * len(environments), [0] * len(environments)
    steps = 0
    started = time.perf_counter()
    while observations:
        calls = [environments[i].step.remote(policy(seen)) for i, seen in observations.items()]
        steps += len(calls)
        for i, (seen, reward, over) in zip(list(observations), ca.get(calls), strict=True):
            if reward > 0:
                won[i] += int(reward)
            else:
                lost[i] -= int(reward)
            if over:
                del observations[i]
            else:
                observations[i] = seen
    return Played(won, lost, steps, time.perf_counter() - started)


@dataclass(frozen=True)
class Environments:
    pong_one: Played
    pong_several: Played
    pole_one: Played
    pole_several: Played

    def headline(self) -> str:
        game = self.pong_one
        return (
            f"Pong {game.won[0]}:{game.lost[0]}; {game.steps_per_s:,.0f} steps/s, "
            f"{SEVERAL} games at once {self.pong_several.steps_per_s:,.0f}"
        )

    def lines(self) -> list[str]:
        def row(what: str, played: Played, outcome: str) -> str:
            speed = f"{played.steps:6,} steps in {played.seconds:4.1f} s, "
            return f"{what:22}{speed}{played.steps_per_s:5,.0f}/s; {outcome}"

        def scores(played: Played) -> str:
            pairs = zip(played.won, played.lost, strict=True)
            return "we to console " + ", ".join(f"{we}:{console}" for we, console in pairs)

        def balanced(played: Played) -> str:
            return "balanced for " + ", ".join(map(str, played.won))

        return [
            row("Pong, one game:", self.pong_one, scores(self.pong_one)),
            row(f"Pong, {SEVERAL} games:", self.pong_several, scores(self.pong_several)),
            row("CartPole, one pole:", self.pole_one, balanced(self.pole_one)),
            row(f"CartPole, {SEVERAL} poles:", self.pole_several, balanced(self.pole_several)),
        ]

    def missed(self) -> list[str]:
        return [
            f"a game of Pong goes to {GAME_POINTS}, but this one to {we}:{console}"
            for played in (self.pong_one, self.pong_several)
            for we, console in zip(played.won, played.lost, strict=True)
            if max(we, console) != GAME_POINTS
        ] + [
            f"every pole should stay up for {POLE_STEPS} steps, but: {played.won}"
            for played in (self.pole_one, self.pole_several)
            if min(played.won) < POLE_STEPS
        ]


def start(name, **options):
    """Start several environments, and wait until the last is ready, so that none slows a first."""
    environments = [Environment.remote(name, **options) for _ in range(SEVERAL)]
    ca.get([environment.reset.remote(0) for environment in environments])
    return environments


def main() -> Environments:
    pong = start("ALE/Pong-v5", obs_type="ram")
    pong_one = play(pong[:1], follow_the_ball, [1])
    pong_several = play(pong, follow_the_ball, range(SEVERAL))

    poles = start("CartPole-v1")
    pole_one = play(poles[:1], balance, [0])
    pole_several = play(poles, balance, range(SEVERAL))
    return Environments(pong_one, pong_several, pole_one, pole_several)


if __name__ == "__main__":
    run(main)
