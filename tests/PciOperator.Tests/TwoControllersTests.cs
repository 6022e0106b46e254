using k8s.Models;
using PciOperator.Api;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>Two controllers at once against the sandbox's API server.</summary>
public sealed class SandboxTwoControllersTests(ITestOutputHelper output) : TwoControllersTests(output)
{
    protected override bool Real => false;
}

/// <summary>The same against a real one.</summary>
[Turns(8)]
public sealed class RealTwoControllersTests(ITestOutputHelper output) : TwoControllersTests(output)
{
    protected override bool Real => true;
}

/// <summary>Without the election nothing but the conditional writes keeps two controllers from giving a device away twice.</summary>
public abstract class TwoControllersTests(ITestOutputHelper output)
{
    private const int Claims = 200;

    protected abstract bool Real { get; }

    [TurnFact]
    public async Task Two_hundred_claims_get_their_devices_once_or_a_true_reason()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(Real, controller: false)).WithNodesAsync(6);
        lab.Cluster.StartController();
        lab.Cluster.StartController();
        await lab.WithSamplesAsync();
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();

        var random = new Random(20261120);
        string[] wishes =
        [
            "a1:1",
            "a1:2",
            "nv2080:1",
            "tenant-vf:1",
            "tenant-vf:2",
            "nvme:1",
            "x520:1",
            "a1:1,nv2080:1",
            "nvme:1,tenant-vf:1",
        ];
        await Task.WhenAll(Enumerable.Range(0, Claims).Select(i => lab.ClaimAsync($"c{i}", wishes[random.Next(wishes.Length)])));

        // Until every claim is Ready, or waits for a reason that is true: a decision made from what is now there refuses it too.
        // (Of two placements of one claim the second is withdrawn, and its devices go to those that wait, a moment later.)
        Listing claims = await lab.UntilAsync(
            "every claim to be Ready, or Pending with a true reason",
            () => ListAsync(lab),
            list => list.Claims.All(IsSettled) && list.CouldBePlaced.Count == 0
        );
        await lab.NoDeviceHasTwoOwnersAsync();
        foreach (PassthroughClaim claim in claims.Claims.Where(c => c.Status!.Phase == ClaimPhase.Allocated))
            Assert.All(claim.Status!.Devices!, d => Assert.Equal("vfio-pci", lab.Driver(claim.Status.NodeName!, d.Address)));
        Assert.All(
            claims.Claims.Where(c => c.Status!.Phase == ClaimPhase.Pending),
            c =>
                Assert.StartsWith(
                    "0/6 nodes can serve it: ",
                    c.Status!.Conditions.Find(Conditions.Scheduled)!.Message,
                    StringComparison.Ordinal
                )
        );

        output.WriteLine(
            $"{claims.Claims.Count(c => c.Status!.Phase == ClaimPhase.Allocated)} claims ready, {claims.Claims.Count(c => c.Status!.Phase == ClaimPhase.Pending)} pending"
        );
        Assert.Contains(claims.Claims, c => c.Status!.Phase == ClaimPhase.Pending);

        // All go, in waves as room is made and taken again, and nothing stays behind.
        await Task.WhenAll(claims.Claims.Select(c => lab.DeleteAsync(c.Metadata.Name!)));
        foreach (PassthroughClaim claim in claims.Claims)
            await lab.GoneAsync(claim.Metadata.Name!);
        await lab.NothingIsStrandedAsync(before);
    }

    private static bool IsSettled(PassthroughClaim claim) =>
        claim.Status?.Conditions.IsTrue(Conditions.Ready) == true
        || claim.Status is { Phase: ClaimPhase.Pending, NodeName: null }
            && claim.Status.Conditions.Find(Conditions.Scheduled)?.Reason == "NoNodeFits";

    /// <summary>All claims, and those that wait although a decision made now would place them.</summary>
    private sealed record Listing(IList<PassthroughClaim> Claims, IReadOnlyList<string> CouldBePlaced)
    {
        public override string ToString() =>
            $"could be placed: {string.Join(", ", CouldBePlaced)}; not settled: "
            + string.Join(
                "; ",
                Claims
                    .Where(c => !IsSettled(c))
                    .Select(c =>
                        $"{c.Metadata.Name}: {c.Status?.Phase} on {c.Status?.NodeName}: {string.Join(", ", (c.Status?.Conditions ?? []).Select(x => $"{x.Type}={x.Status} {x.Reason} {x.Message}"))}"
                    )
            );
    }

    private static async Task<Listing?> ListAsync(LabCluster lab)
    {
        IList<PassthroughClaim> claims = (await lab.Client.ListAsync<PassthroughClaim>()).Items;
        if (!claims.All(IsSettled))
            return new Listing(claims, []);
        ClusterView view = await ViewAsync(lab);
        return new Listing(
            claims,
            [
                .. claims
                    .Where(c => c.Status!.Phase == ClaimPhase.Pending)
                    .Where(c =>
                        view.Place([new ClaimToPlace(c, c.ToRequirements(view.Alias, DateTimeOffset.UtcNow))], null).Node is not null
                    )
                    .Select(c => $"{c.Metadata.Name} ({c.Status!.Conditions.Find(Conditions.Scheduled)!.Message})"),
            ]
        );
    }

    private static async Task<ClusterView> ViewAsync(LabCluster lab)
    {
        var view = new ClusterView();
        foreach (V1Node node in (await lab.Client.ListAsync<V1Node>()).Items)
        {
            view.SetNode(node.Metadata.Name!, node);
            view.SetAgentReady(node.Metadata.Name!, true);
        }

        foreach (PciNode node in (await lab.Client.ListAsync<PciNode>()).Items)
            view.SetPciNode(node.Metadata.Name!, node);
        foreach (PciAlias alias in (await lab.Client.ListAsync<PciAlias>()).Items)
            view.SetAlias(alias.Metadata.Name!, alias.ToDefinition());
        return view;
    }
}
