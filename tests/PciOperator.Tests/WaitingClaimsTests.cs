using k8s.Models;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>What wakes claims that wait, and what is written into them.</summary>
[Turns(2)]
public sealed class WaitingClaimsTests(ITestOutputHelper output)
{
    [TurnFact]
    public void Only_what_can_help_a_claim_or_is_news_for_it_wakes_it()
    {
        ClusterView view = ViewHosts.View();
        (PassthroughClaim one, PassthroughClaim two, PassthroughClaim tolerant) = (
            ViewHosts.Claim("one", "0a51", 2),
            ViewHosts.Claim("two", "0a52", 2),
            ViewHosts.Claim("elsewhere", "any", 9)
        );
        tolerant.Spec.NodeName = "node-2";
        string Woken()
        {
            Func<PassthroughClaim, bool> concerns = view.TakeChanges();
            return string.Join(' ', new[] { one, two, tolerant }.Where(concerns).Select(c => c.Metadata.Name));
        }

        Woken();
        view.SetPciNode("node-1", ViewHosts.Node("node-1", "0a51"));
        Assert.Equal("one", Woken());
        view.SetPciNode("node-1", ViewHosts.Node("node-1", "0a51"));
        Assert.Equal("", Woken());
        view.SetPciNode("node-1", ViewHosts.Node("node-1", "0a51", "0a52"));
        Assert.Equal("two", Woken());
        view.SetNode("node-1", ViewHosts.CoreNode(cordoned: true));
        Assert.Equal("", Woken());
        view.SetNode("node-1", ViewHosts.CoreNode());
        Assert.Equal("one two", Woken());
        view.SetAgentReady("node-1", false);
        Assert.Equal("", Woken());
        view.SetAgentReady("node-1", true);
        Assert.Equal("one two", Woken());
        view.SetAlias("0a51", null);
        Assert.Equal("one", Woken());
    }

    [TurnFact]
    public void A_device_that_a_node_keeps_back_from_now_on_is_news_once_for_those_that_could_have_had_it()
    {
        ClusterView view = ViewHosts.View();
        view.SetPciNode("node-1", ViewHosts.Node("node-1", "0a51", "0a52"));
        view.TakeChanges();
        PciNode kept = ViewHosts.Node("node-1", "0a51", "0a52");
        (kept.Status!.Devices![0].State, kept.Status.Devices[0].Reason) = (DeviceState.Unavailable, "it is mounted at /data");
        view.SetPciNode("node-1", kept);
        Func<PassthroughClaim, bool> concerns = view.TakeChanges();
        Assert.True(concerns(ViewHosts.Claim("one", "0a51", 2)));
        Assert.False(concerns(ViewHosts.Claim("two", "0a52", 2)));
        view.SetPciNode("node-1", kept);
        Assert.False(view.TakeChanges()(ViewHosts.Claim("one", "0a51", 2)));
    }

    [Theory]
    [InlineData(
        "0/3 nodes can serve it: 2 have too few free (1 of 2), 1 is cordoned.",
        "0/13 nodes can serve it: 9 are cordoned, 1 has too few free (0 of 2).",
        true
    )]
    [InlineData("0/3 nodes can serve it: 3 have too few free (1 of 2).", "0/3 nodes can serve it: 3 are cordoned.", false)]
    [InlineData(
        "0/3 nodes can serve it: 3 are cordoned.",
        "0/3 nodes can serve it: 3 are cordoned. Not offered: 1 (UsedOnce); the PciNodes say why.",
        false
    )]
    public void Statuses_that_differ_in_counts_alone_are_told_apart_from_others(string before, string after, bool same)
    {
        PassthroughClaim claim = ViewHosts.Claim("one", "0a51");
        DateTimeOffset now = DateTimeOffset.UnixEpoch;
        claim.Status = ClaimStatus.Pending(claim, "NoNodeFits", before, now);
        Assert.Equal(same, ClaimStatus.SameButCounts(claim.Status, ClaimStatus.Pending(claim, "NoNodeFits", after, now)));
        Assert.False(ClaimStatus.SameButCounts(claim.Status, ClaimStatus.Pending(claim, "AliasNotFound", before, now)));
    }

    [TurnFact]
    public async Task Fifteen_hundred_claims_that_wait_are_not_written_for_a_cordon()
    {
        const int waiting = 1500;
        await using LabCluster lab = await (await LabCluster.StartAsync(real: false)).WithNodesAsync(2);
        await lab.WithSamplesAsync();
        for (int i = 0; i < waiting; i += 50)
            await Task.WhenAll(Enumerable.Range(i, 50).Select(n => lab.ClaimAsync($"w{n}", "nvme:16")));
        Dictionary<string, string> before = await lab.UntilAsync(
            "all to wait",
            async () => (Dictionary<string, string>?)await ScheduledAsync(lab),
            v => v.Count == waiting
        );

        await lab.Client.PatchAsync<V1Node>("node-1", null, EntityPatch.Merge("""{"spec":{"unschedulable":true}}"""));
        for ((bool seen, int i) = (false, 0); !seen; i++)
        {
            await lab.ClaimAsync($"asking-{i}", "nvme:16");
            PassthroughClaim asking = await lab.PendingAsync($"asking-{i}", "0/2");
            seen = asking.Status!.Conditions.Find(Conditions.Scheduled)!.Message.Contains("cordoned", StringComparison.Ordinal);
            await lab.DeleteAsync($"asking-{i}");
        }

        // Whoever is woken is so within moments: a claim made now is served after them.
        await Task.Delay(500);
        await lab.ClaimAsync("served", "nvme:1");
        await lab.ReadyAsync("served");
        Dictionary<string, string> after = await ScheduledAsync(lab);
        int written = before.Count(b => after[b.Key] != b.Value);
        output.WriteLine($"{waiting} claims that wait, one cordon: {written} statuses written");
        Assert.Equal(0, written);
    }

    private static async Task<Dictionary<string, string>> ScheduledAsync(LabCluster lab) =>
        (await lab.Client.ListAsync<PassthroughClaim>())
            .Items.Where(c => c.Metadata.Name![0] == 'w' && c.Status?.Phase == ClaimPhase.Pending)
            .ToDictionary(c => c.Metadata.Name!, c => c.Metadata.ResourceVersion!);
}
