using k8s.Models;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Validation;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>What <c>helm uninstall</c> waits for, with the rights of the chart's job and no others.</summary>
[Turns(6)]
public sealed class UninstallationTests
{
    private static readonly string Chart = Path.Combine(Kubectl.Repository, "charts", "pci-operator");

    [TurnFact]
    public async Task It_waits_until_every_device_is_back_says_for_what_and_takes_the_definitions_last()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(real: true, installed: true)).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();
        await lab.ClaimAsync("router", "a1:2");
        await lab.ReadyAsync("router");
        await HooksAsync(lab);
        using EntityClient client = lab.As("pcioperator-uninstall");
        var log = new RecordedLog();
        var uninstallation = new Uninstallation(client, TimeProvider.System, log);

        // It gives up where nobody deletes the claim, and has changed nothing.
        TimeoutException late = await Assert.ThrowsAsync<TimeoutException>(() =>
            uninstallation.WaitAsync(deleteDefinitions: true, TimeSpan.Zero, TestContext.Current.CancellationToken)
        );
        Assert.Contains(
            "claim default/router, which has devices of node-1: kubectl delete passthroughclaim -n default router",
            late.Message,
            StringComparison.Ordinal
        );
        await lab.ReadyAsync("router");

        Task waits = uninstallation.WaitAsync(deleteDefinitions: true, TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        await lab.UntilAsync(
            "a word",
            () => Task.FromResult<RecordedLog?>(log),
            l => l.Lines.Any(t => t.Contains("default/router", StringComparison.Ordinal))
        );
        Assert.False(waits.IsCompleted);
        await lab.DeleteAsync("router");
        await waits;

        ApiException none = await Assert.ThrowsAsync<ApiException>(() => lab.Client.GetRawAsync("/apis/pcioperator.io/v1alpha1/pcinodes"));
        Assert.True(none.IsNotFound);
        Assert.Equal(before["node-1"], lab.Drivers()["node-1"]);
        V1Node node = (await lab.Client.GetAsync<V1Node>("node-1"))!;
        Assert.DoesNotContain(node.Status.Conditions ?? [], c => c.Type == "PciPassthroughReady");
    }

    [TurnFact]
    public async Task Each_permission_of_its_job_is_used_and_without_one_it_says_which()
    {
        const string user = "system:serviceaccount:pcioperator-controller:pcioperator-uninstall";
        await using LabCluster lab = await LabCluster.StartAsync(real: true, controller: false, installed: true);
        await HooksAsync(lab);
        var uses = new UseRecorder();
        using EntityClient client = lab.As("pcioperator-uninstall", inner => uses.Wrap(user, inner));
        var permissions = new Permissions(lab.Client);
        var all = (await permissions.OfAsync(SandboxCluster.ControllerNamespace)).Where(p => p.User == user).ToList();
        await UninstallAsync();
        Assert.Equal([], all.Where(p => !uses.HasUsed(p)).Select(p => p.ToString()));
        Assert.NotEmpty(all);
        foreach (Permission taken in TestScope.Share(all, 7))
        {
            foreach (string crd in SandboxCrds.All)
                await Manifests.InstallCrdAsync(lab.Client, crd);
            await using (await permissions.WithoutAsync(taken))
            {
                ApiException refused = await Assert.ThrowsAsync<ApiException>(UninstallAsync);
                Assert.Contains(taken.Refusal, refused.Message, StringComparison.Ordinal);
            }

            await UninstallAsync();
        }

        Task UninstallAsync() =>
            new Uninstallation(client, TimeProvider.System, new RecordedLog()).WaitAsync(
                deleteDefinitions: true,
                TimeSpan.FromMinutes(2),
                TestContext.Current.CancellationToken
            );
    }

    [TurnFact]
    public void What_is_held_is_said_with_what_to_do()
    {
        PassthroughClaim has = Claim("a", "has"),
            waits = Claim("a", "waits"),
            goes = Claim("b", "goes");
        goes.Metadata.DeletionTimestamp = DateTime.UnixEpoch;
        goes.Status = new PassthroughClaimStatus
        {
            Conditions = ((IReadOnlyList<V1Condition>?)null).With(
                Conditions.Ready,
                false,
                "Releasing",
                "the claim is deleted; it waits for pod b/vm",
                1,
                DateTimeOffset.UnixEpoch
            ),
        };
        PciNode one = Node("one", given: [has, goes], held: [has]),
            two = Node("two", given: [], held: [Claim("c", "forgotten")]);

        string[] held =
        [
            "claim a/has, which has devices of one: kubectl delete passthroughclaim -n a has",
            "claim b/goes, which has devices of one: the claim is deleted; it waits for pod b/vm",
            "node two gives back what claim c/forgotten had, which is gone: kubectl describe pcinode two",
        ];
        Assert.Equal(held, Uninstallation.Held([has, waits, goes], [one, two], all: false));
        Assert.Equal(
            [held[0], "claim a/waits: kubectl delete passthroughclaim -n a waits", .. held[1..]],
            Uninstallation.Held([has, waits, goes], [one, two], all: true)
        );
        Assert.Empty(Uninstallation.Held([waits], [Node("one", [], [])], all: false));
    }

    private static async Task HooksAsync(LabCluster lab)
    {
        string hooks = Helm.Text(await Helm.HooksAsync(Chart, "crds: {keep: false}"));
        (int code, string said) = await Kubectl.TryAsync(lab.KubeconfigText, hooks, "apply", "--validate=strict", "-f", "-");
        Assert.True(code == 0, said);
    }

    private static PassthroughClaim Claim(string ns, string name) =>
        new()
        {
            Metadata = new V1ObjectMeta
            {
                NamespaceProperty = ns,
                Name = name,
                Uid = "uid-" + name,
            },
        };

    private static PciNode Node(string name, PassthroughClaim[] given, PassthroughClaim[] held) =>
        new()
        {
            Metadata = new V1ObjectMeta { Name = name },
            Spec = new PciNodeSpec
            {
                Assignments =
                [
                    .. given.Select(c => new PciAssignment
                    {
                        ClaimUid = c.Metadata.Uid!,
                        ClaimNamespace = c.Metadata.NamespaceProperty,
                        ClaimName = c.Metadata.Name!,
                    }),
                ],
            },
            Status = new PciNodeStatus
            {
                Assignments =
                [
                    .. held.Select(c => new AssignmentStatus
                    {
                        ClaimUid = c.Metadata.Uid!,
                        ClaimNamespace = c.Metadata.NamespaceProperty,
                        ClaimName = c.Metadata.Name!,
                    }),
                ],
            },
        };
}
