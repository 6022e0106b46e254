using k8s.Models;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Kubernetes;

namespace PciOperator.Tests;

/// <summary>Which namespaces may ask for which aliases.</summary>
public sealed class AliasAccessTests
{
    private const string Gold = """{"spec":{"namespaceSelector":{"matchLabels":{"tier":"gold"} } } }""";

    [Fact]
    public async Task A_claim_of_a_namespace_that_its_alias_is_not_for_waits_and_is_placed_when_the_namespaces_labels_change()
    {
        await using ClockedController lab = await ClockedController.StartAsync(1);
        await lab.ReportAsync("node-1", products: ["0a51", "0a51", "0a52"]);
        await lab.Client.PatchAsync<PciAlias>("drive-0a51", null, EntityPatch.Merge(Gold));
        await lab.ClaimAsync("poor", "drive-0a51");
        PassthroughClaim waits = await SaysAsync(lab, "poor", AliasAccess.NotAllowed);
        string sentence = waits.Status!.Conditions.Find(Conditions.Scheduled)!.Message;
        Assert.Equal(
            "namespace default may not ask for alias drive-0a51, which claim poor does: an administrator says which namespaces may, by the PciAlias' namespaceSelector and the namespace's labels",
            sentence
        );
        // What the selector asks for is the administrator's.
        Assert.DoesNotContain("gold", sentence, StringComparison.Ordinal);

        // Another alias is not concerned.
        await lab.ClaimAsync("other", "drive-0a52");
        await PlacedAsync(lab, "other");

        await lab.Client.PatchAsync<V1Namespace>("default", null, EntityPatch.Merge("""{"metadata":{"labels":{"tier":"gold"} } }"""));
        PassthroughClaim placed = await PlacedAsync(lab, "poor");

        // What is placed stays; what is new waits again.
        await lab.Client.PatchAsync<V1Namespace>("default", null, EntityPatch.Merge("""{"metadata":{"labels":{"tier":"tin"} } }"""));
        await lab.ClaimAsync("late", "drive-0a51");
        await SaysAsync(lab, "late", AliasAccess.NotAllowed);
        Assert.Equal(
            placed.Status!.Devices![0].Address,
            (await lab.Client.GetAsync<PassthroughClaim>("poor", "default"))!.Status!.Devices![0].Address
        );

        // A selector that goes lets everybody in, at once.
        await lab.Client.PatchAsync<PciAlias>("drive-0a51", null, EntityPatch.Merge("""{"spec":{"namespaceSelector":null} }"""));
        await PlacedAsync(lab, "late");
    }

    [Fact]
    public async Task Claims_that_belong_together_wait_together_when_one_may_not_have_its_alias()
    {
        await using ClockedController lab = await ClockedController.StartAsync(1);
        await lab.ReportAsync("node-1", products: ["0a51", "0a52"]);
        await lab.Client.PatchAsync<PciAlias>("drive-0a51", null, EntityPatch.Merge(Gold));
        await lab.ClaimAsync("a", "drive-0a51");
        PassthroughClaim b = ViewHosts.Claim("b", "drive-0a52");
        b.Metadata.Uid = null;
        b.Spec.CoLocateWith = ["a"];
        await lab.Client.CreateAsync(b);
        await SaysAsync(lab, "a", AliasAccess.NotAllowed);
        PassthroughClaim said = await SaysAsync(lab, "b", AliasAccess.NotAllowed);
        Assert.Contains("which claim a does", said.Status!.Conditions.Find(Conditions.Scheduled)!.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("In", "a,b", "b", true)]
    [InlineData("In", "a,b", "c", false)]
    [InlineData("In", "a", null, false)]
    [InlineData("NotIn", "a,b", "b", false)]
    [InlineData("NotIn", "a,b", "c", true)]
    [InlineData("NotIn", "a", null, true)]
    [InlineData("Exists", null, "", true)]
    [InlineData("Exists", null, null, false)]
    [InlineData("DoesNotExist", null, "x", false)]
    [InlineData("DoesNotExist", null, null, true)]
    public void A_condition_means_what_it_means_in_Kubernetes(string how, string? values, string? value, bool holds)
    {
        var selector = new NamespaceSelector
        {
            MatchExpressions =
            [
                new LabelRequirement
                {
                    Key = "team",
                    Operator = Enum.Parse<LabelOperator>(how),
                    Values = values?.Split(','),
                },
            ],
        };
        Dictionary<string, string> labels = new() { ["other"] = "a" };
        if (value is not null)
            labels["team"] = value;
        Assert.Equal(holds, selector.Matches(labels));
        if (value is null)
            Assert.Equal(holds, selector.Matches(null));
        Assert.True(new NamespaceSelector().Matches(null));
        Assert.False((selector with { MatchLabels = new Dictionary<string, string> { ["absent"] = "" } }).Matches(labels));
    }

    [Fact]
    public async Task What_waits_for_a_pod_is_offered_to_nobody_in_a_namespace_that_may_not_have_it_from_whatever_side_it_comes()
    {
        await using DeliveryLab lab = await DeliveryLab.StartAsync(1);
        await lab.ClaimAsync("own", configure: s => s.BindingMode = BindingMode.WaitForFirstConsumer);
        PassthroughClaim own = await lab.SaysAsync("own", Conditions.Ready, "True", "Offered");
        Assert.NotNull(await lab.SliceAsync(own));

        // An offer from before is taken back.
        await lab.Client.PatchAsync<PciAlias>("drive-0a51", null, EntityPatch.Merge(Gold));
        await lab.SaysAsync("own", Conditions.Scheduled, "False", AliasAccess.NotAllowed);
        Assert.Null(await lab.SliceAsync(own));

        // By a template the same.
        await lab.FromTemplateAsync("pooled");
        PassthroughClaim pooled = await lab.SaysAsync("pooled", Conditions.Scheduled, "False", AliasAccess.NotAllowed);
        Assert.Null(await lab.SliceAsync(pooled));

        await lab.Client.PatchAsync<V1Namespace>("default", null, EntityPatch.Merge("""{"metadata":{"labels":{"tier":"gold"} } }"""));
        await lab.SaysAsync("own", Conditions.Ready, "True", "Offered");
        await lab.SaysAsync("pooled", Conditions.Ready, "True", "Offered");
    }

    private static Task<PassthroughClaim> PlacedAsync(ClockedController lab, string name) =>
        lab.UntilAsync(
            $"claim {name} to be placed",
            () => lab.Client.GetAsync<PassthroughClaim>(name, "default"),
            c => c.Status?.NodeName is not null
        );

    private static Task<PassthroughClaim> SaysAsync(ClockedController lab, string name, string reason) =>
        lab.UntilAsync(
            $"claim {name} to wait because of {reason}",
            () => lab.Client.GetAsync<PassthroughClaim>(name, "default"),
            c => c.Status?.Conditions.Find(Conditions.Scheduled)?.Reason == reason
        );
}
