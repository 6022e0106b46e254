namespace PciOperator.Core.Tests;

/// <summary>
/// One node's answer, its sentence included, takes no more work than <see cref="WorkBounds"/> says, whatever it is asked.
/// </summary>
public class WorkBoundTests
{
    // A pass that was begun is ended.
    private const long OnePass = 1 << 20;

    [Theory]
    [InlineData("too-complex")]
    [InlineData("slow-explanation")]
    public void A_hard_host_without_an_assignment_is_refused_within_the_bound(string name)
    {
        var file = HostFile.Read(name);
        long before = Scratch.Mine.Work;
        Assert.IsType<NodeVerdict.Refused>(Allocator.TryNode(file.Node, file.Claim));
        long taken = Scratch.Mine.Work - before;
        Assert.True(taken < WorkBounds.Deciding + WorkBounds.Wording + OnePass, $"{taken} numbers looked at");
    }

    [Fact]
    public void An_answer_that_takes_the_whole_bound_takes_no_new_memory()
    {
        var host = HardHosts.Of(26, 0);
        (NodeInventory node, ClaimRequirements claim) = (host.Node(), host.Claim());
        long before = Scratch.Mine.Work;
        Assert.IsType<NodeVerdict.TooComplex>(Allocator.TryNode(node, claim));
        Assert.True(Scratch.Mine.Work - before > WorkBounds.Deciding - OnePass);
        // Its memory is there now.
        long allocated = GC.GetAllocatedBytesForCurrentThread();
        Allocator.TryNode(node, claim);
        allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
        Assert.True(allocated < 1 << 20, $"{allocated} bytes");
    }

    [Fact]
    public void A_search_that_ends_at_its_bound_says_so_and_not_that_there_is_nothing()
    {
        // Bounds of all sizes, to end at every place: with little work a question that has an answer must not be called one that has none.
        var host = HardHosts.Of(5, 2);
        (NodeInventory node, ClaimRequirements claim) = (host.Node(), host.Claim());
        var plan = ClaimPlan.Of(claim);
        int[] masks = [.. node.Shape.Classes.Select(plan.MaskOf)];
        bool known = false;
        for (long bound = 1000; bound < 4_000_000; bound += (bound / 7) + 1)
        {
            Scratch.Mine.Begin(bound);
            Fit fit = new NodeSolver(node.Shape, plan, masks).SolveWithin();
            known |= fit.Served;
            Assert.True(fit.Served || fit.GaveUp, $"refused at {bound}, though it can be served");
        }

        Assert.False(known, "it is served within a tenth of the bound: find another host");
    }

    [Fact]
    public void A_host_with_a_NUMA_node_for_each_of_many_cards_is_answered_within_the_bound()
    {
        var file = HostFile.Read("slow-explanation");
        NodeDevice[] apart = [.. file.Node.Devices.Select((d, i) => d with { Function = d.Function with { NumaNode = i } })];
        long before = Scratch.Mine.Work;
        NodeVerdict verdict = Allocator.TryNode(NodeInventory.Build("n", apart), file.Claim);
        long taken = Scratch.Mine.Work - before;
        Assert.IsNotType<NodeVerdict.Served>(verdict);
        Assert.True(taken < WorkBounds.Deciding + WorkBounds.Wording + OnePass, $"{taken} numbers looked at");
    }
}
