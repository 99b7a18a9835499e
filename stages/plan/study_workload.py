"""What the studies of a recipe will have to compute, beside its other steps."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from policy.footprint import Footprint
from policy.generation import BATCH_SIZE
from preference_data.margin import MARGINS
from stages.plan.work import ON_DISK, RECORD, Work
from stages.plan.workload import Workload
from stages.sections import RewardStudyConfig, SamplingStudyConfig, ScalingStudyConfig, TunedStudyConfig
from stages.step import Step
from stages.studies.ppo_inputs import ARMS, WhiteningStudyConfig


class WholeWorkload(Workload):
    """The work of each step of a recipe, studies included."""

    def of(self, step: Step) -> Work:
        """What ``step`` computes."""
        studies: Mapping[str, Callable[[Step], Work]] = {
            "study-safety-loss": self._reward_study, "study-margin": self._reward_study,
            "study-reward-scaling": self._reward_study, "study-best-of-n": self._sampling_study,
            "study-temperature": self._sampling_study, "study-pooling": self._tuned_study,
            "study-size-distillation": self._tuned_study, "study-whitening": self._whitening_study,
        }  # fmt: skip
        return studies[step.stage.name](step) if step.stage.name in studies else super().of(step)

    def _reward_study(self, step: Step) -> Work:
        """Its arms, as if each were trained on all comparisons from a policy of the recipe's own size."""
        assert isinstance(step.config, RewardStudyConfig)
        scaling = len(step.inputs["policy"]) * len(step.config.shares) if isinstance(step.config, ScalingStudyConfig) else 0
        ways = scaling or {"study-safety-loss": 2, "study-margin": len(MARGINS)}[step.stage.name]
        arm, arms = self._reward(replace(step, config=step.config.training)), ways * (step.config.training_seeds or 1)
        passes = (*(replace(each, count=arms * each.count) for each in arm.passes), self._reading(arms * 2 * self._num_heldout))
        return replace(arm, passes=passes, artifact_bytes=0)

    def _sampling_study(self, step: Step) -> Work:
        config = step.config
        assert isinstance(config, SamplingStudyConfig)
        count = len(step.inputs["policy"]) * len(config.temperatures) * (config.num_helpful + config.num_adversarial) * config.k
        held = Footprint(weights=3 * self.weights, cache=self._cache(BATCH_SIZE, config.max_new_tokens, config.k))
        sampling = self._sampling(count, config.max_new_tokens, config.k)
        return Work((*sampling, self._reading(2 * count)), held, RECORD * count, ON_DISK * count * self.response)

    def _whitening_study(self, step: Step) -> Work:
        """PPO as often as there are arms and seeds; the start and each final policy then answer the evaluation prompts."""
        config = step.config
        assert isinstance(config, WhiteningStudyConfig) and self.sandbox
        training, arms = self._ppo(step), len(ARMS) * config.training_seeds
        prompts, new = self.sandbox.evaluation_prompts, config.evaluation.max_new_tokens
        count = (arms + 1) * config.answers * (prompts.num_helpful + prompts.num_adversarial + prompts.num_borderline)
        answering = (*self._sampling(count, new, config.answers), self._reading(2 * count))
        trained = (replace(each, count=arms * each.count) for each in training.passes)
        return replace(training, passes=(*trained, *answering), artifact_bytes=0)

    def _tuned_study(self, step: Step) -> Work:
        """Its arms, as if the model had the recipe's own size; each then answers the evaluation prompts."""
        config = step.config
        assert isinstance(config, TunedStudyConfig) and self.sandbox
        rounds, own = self._read_by(step, "samples"), self._read_by(step, "own")
        arms = [rounds[-1:], rounds, rounds] if rounds else [[], own, self._read_by(step, "larger")]
        seeds, prompts, new = config.training_seeds or 1, self.sandbox.evaluation_prompts, config.evaluation.max_new_tokens
        count = config.answers * (prompts.num_helpful + prompts.num_adversarial + prompts.num_borderline)
        passes = [*self._sampling(count * len(arms), new, config.answers), self._reading(2 * count * len(arms))]
        for names in arms:
            texts = [text for name in names for text in self.made[name]]
            work = self._finetuned(config.tuning, [*self._always_mixed_in(step), *texts])
            passes += work.passes
        return replace(work, passes=tuple(replace(each, count=seeds * each.count) for each in passes), artifact_bytes=0)
