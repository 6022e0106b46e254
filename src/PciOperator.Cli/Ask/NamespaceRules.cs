using k8s.Models;
using PciOperator.Api;
using PciOperator.Cli.Commands;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Placement;

namespace PciOperator.Cli.Ask;

/// <summary>Which aliases a namespace may ask for, and how many devices it may have: what the controller asks before it looks at nodes.</summary>
internal static class NamespaceRules
{
    /// <summary>Why a claim of a namespace would wait whatever nodes have; null: nothing of the namespace is against it, as far as the caller may see.</summary>
    /// <param name="session">Who asks. What it may not read is said as a warning, and left out.</param>
    /// <param name="cluster">The cluster.</param>
    /// <param name="claim">The claim.</param>
    public static async Task<string?> WhyNotAsync(Session session, ClusterSnapshot cluster, PassthroughClaim claim)
    {
        string ns = claim.Metadata.NamespaceProperty;
        var selective = cluster
            .Aliases.Where(a => a.Spec.NamespaceSelector is not null && claim.Spec.Requests.Any(r => r.Alias == a.Metadata.Name))
            .ToList();
        IEnumerable<PciQuota> quotas =
            (await IfAllowedAsync(session, "PciQuotas", () => session.Client.ListAsync<PciQuota>(ct: session.Ct)))?.Items ?? [];
        IDictionary<string, string>? labels = null;
        if (selective.Count > 0 || quotas.Any(q => q.Spec.NamespaceSelector is not null))
        {
            V1Namespace? known = await IfAllowedAsync(
                session,
                $"namespace {ns}",
                async () => await session.Client.GetAsync<V1Namespace>(ns, ct: session.Ct) ?? new V1Namespace()
            );
            if (known is null)
                return null;
            labels = known.Metadata?.Labels;
        }

        if (selective.Find(a => !a.Spec.NamespaceSelector!.Matches(labels)) is { } closed)
            return $"Namespace {ns} may not ask for alias {closed.Metadata.Name}: its namespaceSelector says which namespaces may.";
        QuotaBook book = Used(cluster, ns);
        foreach (PciQuota quota in quotas.Where(q => q.Spec.HoldsFor(ns, labels)))
        {
            if (book.WhyNot(QuotaCounts.LimitsOf(quota), [(claim.Metadata.Uid!, QuotaCounts.AskedBy(claim))]) is { } excess)
            {
                return $"PciQuota {quota.Metadata.Name}: namespace {ns} has {QuotaCounts.Text(excess)}, and the claim asks for {excess.Asked}.";
            }
        }

        return null;
    }

    private static QuotaBook Used(ClusterSnapshot cluster, string ns)
    {
        var claims = cluster.Claims.Where(c => c.Metadata.NamespaceProperty == ns).ToDictionary(c => c.Metadata.Uid!);
        return QuotaCounts.Book(
            claims.Values.Where(c => c.Status?.NodeName is { Length: > 0 }),
            cluster.PciNodes.SelectMany(n => n.Spec.Assignments ?? []).Where(a => a.ClaimNamespace == ns),
            claims.GetValueOrDefault
        );
    }

    private static async Task<T?> IfAllowedAsync<T>(Session session, string what, Func<Task<T>> read)
        where T : class
    {
        try
        {
            return await read();
        }
        catch (ApiException forbidden) when (forbidden.IsForbidden)
        {
            await session.WarnAsync($"you may not see {what}: whether the namespace may have the devices is left out");
            return null;
        }
        catch (ApiException missing) when (missing.IsNotFound)
        {
            // An installation from before there were quotas.
            return null;
        }
    }
}
