using k8s.Models;
using PciOperator.Api;

namespace PciOperator.Tests;

/// <summary>How often a Node's condition says what its pools have.</summary>
public sealed class NodeNumbersTests
{
    [Fact]
    public async Task New_numbers_of_a_Nodes_pools_are_said_every_ten_seconds_at_most_and_none_is_lost()
    {
        await using ClockedController lab = await ClockedController.StartAsync(1);
        await ReportAsync(lab, free: 4);
        V1Node node = await lab.UntilAsync(
            "the Node to show its pool",
            () => lab.Client.GetAsync<V1Node>("node-1"),
            n => Condition(n)?.Message.Contains("4 of 4 free", StringComparison.Ordinal) == true
        );
        string first = Condition(node)!.Message;
        int written = lab.Writes(IsNodeStatus);

        await ReportAsync(lab, free: 3);
        await lab.PassAsync(TimeSpan.FromSeconds(5), TimeSpan.FromSeconds(1));
        Assert.Equal(first, Condition((await lab.Client.GetAsync<V1Node>("node-1"))!)!.Message);
        await ReportAsync(lab, free: 2);
        await lab.PassAsync(TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(1));
        Assert.Contains("2 of 4 free", Condition((await lab.Client.GetAsync<V1Node>("node-1"))!)!.Message, StringComparison.Ordinal);
        Assert.Equal(written + 1, lab.Writes(IsNodeStatus));
    }

    private static Task ReportAsync(ClockedController lab, int free)
    {
        PciNodeStatus status = ViewHosts.Node("node-1", "0a51").Status!;
        return lab.ReportAsync(
            "node-1",
            status with
            {
                ObservedGeneration = 1,
                Pools =
                [
                    new PciPool
                    {
                        VendorId = "144d",
                        ProductId = "0a51",
                        Address = "0000:01:00.0",
                        Total = 4,
                        Available = free,
                    },
                ],
                Conditions = [.. status.Conditions!.Select(c => c with { LastTransitionTime = lab.Time.GetUtcNow().UtcDateTime })],
            }
        );
    }

    private static bool IsNodeStatus(string call) => call.Contains("/nodes/node-1/status", StringComparison.Ordinal);

    private static V1NodeCondition? Condition(V1Node node) =>
        node.Status?.Conditions?.FirstOrDefault(c => c.Type == PciOperatorApi.NodeConditionType);
}
