namespace PciOperator.Core.Tests;

/// <summary>One node's answer, its sentence included, takes no more work than <see cref="WorkBounds"/> says, whatever it is asked.</summary>
public class WorkBoundTests
{
    // A pass that was begun is ended.
    private const long OnePass = 1 << 20;

    [Theory]
    [InlineData("too-complex")]
    [InlineData("slow-explanation")]
    public void A_hard_host_without_an_assignment_is_refused_within_the_bound(string name)
    {
        HostFile file = HostFile.Read(name);
        long before = Scratch.Mine.Work;
        Assert.IsType<NodeVerdict.Refused>(Allocator.TryNode(file.Node, file.Claim));
        long taken = Scratch.Mine.Work - before;
        Assert.True(taken < WorkBounds.Deciding + WorkBounds.Wording + OnePass, $"{taken} numbers looked at");
    }

    [Fact]
    public void A_host_with_a_NUMA_node_for_each_of_many_cards_is_answered_within_the_bound()
    {
        HostFile file = HostFile.Read("slow-explanation");
        NodeDevice[] apart = [.. file.Node.Devices.Select((d, i) => d with { Function = d.Function with { NumaNode = i } })];
        long before = Scratch.Mine.Work;
        NodeVerdict verdict = Allocator.TryNode(NodeInventory.Build("n", apart), file.Claim);
        long taken = Scratch.Mine.Work - before;
        Assert.IsNotType<NodeVerdict.Served>(verdict);
        Assert.True(taken < WorkBounds.Deciding + WorkBounds.Wording + OnePass, $"{taken} numbers looked at");
    }
}
