using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Kubernetes;

namespace PciOperator.Controller;

/// <summary>
/// What comes before the programs are taken away: only they can give devices back, so that it waits until none is held, and says for what.
/// It deletes nothing that is a tenant's.
/// </summary>
/// <param name="client">The cluster; it lists PassthroughClaims and PciNodes, and to delete definitions it gets and deletes those.</param>
/// <param name="time">What is waited by.</param>
/// <param name="log">Where it is said for what it waits, when that changes.</param>
public sealed class Uninstallation(IEntityClient client, TimeProvider time, ILogger log)
{
    private const string Definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/";
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(2);

    // Claims need their nodes to the end.
    private static readonly string[] Kinds = ["passthroughclaims", "pcidevicespecs", "pciquotas", "pcialiases", "pcinodes"];

    /// <summary>Waits until no device is held.</summary>
    /// <param name="deleteDefinitions">
    /// Whether to delete the custom resources' definitions, and all that is stored of them, after it: while the controller is there to let
    /// its PciNodes go. Then it waits for claims without devices, too: they would be deleted with their definition.
    /// </param>
    /// <param name="timeout">How long to wait.</param>
    /// <param name="ct">Ends the wait.</param>
    /// <exception cref="TimeoutException">Something is still there; the message says what, and what to do.</exception>
    public async Task WaitAsync(bool deleteDefinitions, TimeSpan timeout, CancellationToken ct)
    {
        DateTimeOffset end = time.GetUtcNow() + timeout;
        await UntilNothingAsync("held", () => HeldAsync(deleteDefinitions, ct), end, ct);
        log.LogInformation("no claim has devices");
        if (!deleteDefinitions)
            return;
        foreach (string kind in Kinds)
            await DeleteAsync(kind, ct);
        await UntilNothingAsync("there", () => StoredAsync(ct), end, ct);
        log.LogInformation("the custom resources are gone");
    }

    /// <summary>What keeps the programs from being taken away, a sentence each.</summary>
    /// <param name="claims">All claims.</param>
    /// <param name="nodes">All PciNodes.</param>
    /// <param name="all">Whether claims without devices count.</param>
    public static IReadOnlyList<string> Held(IReadOnlyCollection<PassthroughClaim> claims, IEnumerable<PciNode> nodes, bool all)
    {
        // What was given away, and what an agent still has of what was taken back.
        ILookup<string, (string Uid, string Name, string Node)> holdings = nodes
            .SelectMany(n =>
                (n.Spec?.Assignments ?? [])
                    .Select(a => (Uid: a.ClaimUid, Name: $"{a.ClaimNamespace}/{a.ClaimName}", Node: n.Metadata.Name!))
                    .Concat(
                        (n.Status?.Assignments ?? []).Select(a =>
                            (Uid: a.ClaimUid, Name: $"{a.ClaimNamespace}/{a.ClaimName}", Node: n.Metadata.Name!)
                        )
                    )
            )
            .DistinctBy(h => (h.Uid, h.Node))
            .ToLookup(h => h.Uid, StringComparer.Ordinal);
        var sentences = claims
            .Where(c => all || holdings.Contains(c.Metadata.Uid!))
            .Select(c =>
                (Name: EntityKey.Of(c).ToString(), Where: string.Join(" and ", holdings[c.Metadata.Uid!].Select(h => h.Node)), Claim: c)
            )
            .Select(c => $"claim {c.Name}{(c.Where.Length == 0 ? "" : $", which has devices of {c.Where}")}: {What(c.Claim)}")
            .ToList();
        var known = claims.Select(c => c.Metadata.Uid!).ToHashSet(StringComparer.Ordinal);
        sentences.AddRange(
            holdings
                .Where(h => !known.Contains(h.Key))
                .SelectMany(h => h)
                .Select(h => $"node {h.Node} gives back what claim {h.Name} had, which is gone: kubectl describe pcinode {h.Node}")
        );
        sentences.Sort(StringComparer.Ordinal);
        return sentences;
    }

    private static string What(PassthroughClaim claim) =>
        claim.Metadata.DeletionTimestamp is null
            ? $"kubectl delete passthroughclaim -n {claim.Metadata.NamespaceProperty} {claim.Metadata.Name}"
        : claim.Status?.Conditions.Find(Conditions.Ready)?.Message is { Length: > 0 } said ? said
        : "it is deleted, and no controller has looked at it yet";

    private async Task<IReadOnlyList<string>> HeldAsync(bool all, CancellationToken ct)
    {
        try
        {
            EntityList<PassthroughClaim> claims = await client.ListAsync<PassthroughClaim>(ct: ct);
            EntityList<PciNode> nodes = await client.ListAsync<PciNode>(ct: ct);
            return Held([.. claims.Items], nodes.Items, all);
        }
        catch (ApiException gone) when (gone.IsNotFound)
        {
            // Without the definitions nothing is held.
            return [];
        }
    }

    private async Task<IReadOnlyList<string>> StoredAsync(CancellationToken ct)
    {
        var stored = new List<string>();
        foreach (string kind in Kinds)
        {
            try
            {
                using System.Text.Json.JsonDocument there = await client.GetRawAsync(Definition(kind), ct);
                stored.Add($"the definition of {kind}: kubectl get {kind} -A shows what of it is left");
            }
            catch (ApiException gone) when (gone.IsNotFound)
            {
                // as it should be
            }
        }

        return stored;
    }

    private async Task DeleteAsync(string kind, CancellationToken ct)
    {
        try
        {
            using System.Text.Json.JsonDocument answer = await client.SendRawAsync(HttpMethod.Delete, Definition(kind), default, ct: ct);
        }
        catch (ApiException gone) when (gone.IsNotFound)
        {
            // as it should be
        }
    }

    private async Task UntilNothingAsync(string state, Func<Task<IReadOnlyList<string>>> look, DateTimeOffset end, CancellationToken ct)
    {
        string said = "";
        while (true)
        {
            IReadOnlyList<string> left;
            try
            {
                left = await look();
            }
            catch (Exception error) when (error is HttpRequestException || (error is ApiException refused && !refused.IsForbidden))
            {
                left = [$"the API server: {error.Cause()}"];
            }

            if (left.Count == 0)
                return;
            string text = string.Join("; ", left);
            if (time.GetUtcNow() >= end)
                throw new TimeoutException($"still {state}: {text}. Nothing was taken away; uninstall again when that is gone.");
            if (text != said)
                log.LogInformation("waits for what is {State}: {Left}", state, text);
            said = text;
            await Task.Delay(Interval, time, ct);
        }
    }

    private static string Definition(string kind) => $"{Definitions}{kind}.{PciOperatorApi.Group}";
}
