using k8s.Models;
using PciOperator.Api;

namespace PciOperator.Tests;

public sealed class TolerationTests
{
    [Theory]
    [InlineData("k", TolerationOperator.Equal, "v", TaintEffect.NoSchedule, true)]
    [InlineData("k", null, "v", null, true)]
    [InlineData("k", TolerationOperator.Exists, null, null, true)]
    [InlineData(null, TolerationOperator.Exists, null, null, true)]
    [InlineData(null, TolerationOperator.Equal, "v", null, false)]
    [InlineData("k", TolerationOperator.Equal, "w", null, false)]
    [InlineData("k", TolerationOperator.Exists, null, TaintEffect.NoExecute, false)]
    [InlineData("j", TolerationOperator.Exists, null, null, false)]
    public void Tolerations_cover_taints(string? key, TolerationOperator? op, string? value, TaintEffect? effect, bool covers) =>
        Assert.Equal(
            covers,
            NodeFilters.Tolerates(
                new ClaimToleration
                {
                    Key = key,
                    Operator = op,
                    Value = value,
                    Effect = effect,
                },
                new V1Taint
                {
                    Key = "k",
                    Value = "v",
                    Effect = "NoSchedule",
                }
            )
        );
}
