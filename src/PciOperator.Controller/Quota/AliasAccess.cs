using k8s.Models;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Controller;

/// <summary>
/// Which namespaces may ask for which aliases. It is asked when a claim is about to be offered or placed, by whatever way it came; what is
/// placed already keeps its devices.
/// </summary>
[EntityRbac("", "namespaces", "list,watch")]
internal sealed class AliasAccess(WatchCache<PciAlias> aliases, WatchCache<V1Namespace> namespaces)
{
    /// <summary>The reason of a claim whose namespace an alias is not for.</summary>
    public const string NotAllowed = "NamespaceNotAllowed";

    /// <summary>Why the namespace of claims may not have what one of them asks for, in the tenant's words; null: it may.</summary>
    public string? WhyNot(IEnumerable<PassthroughClaim> claims)
    {
        foreach (PassthroughClaim claim in claims)
        {
            string ns = claim.Metadata.NamespaceProperty;
            foreach (string alias in claim.Spec.Requests.Select(r => r.Alias).Distinct())
            {
                // A namespace that is not known yet is not one without labels, which a selector could mean. Its coming brings the claim back.
                if (
                    aliases.Get(alias)?.Spec.NamespaceSelector is { } selector
                    && (namespaces.Get(ns) is not { } known || !selector.Matches(known.Metadata.Labels))
                )
                {
                    return $"namespace {ns} may not ask for alias {alias}, which claim {claim.Metadata.Name} does: an administrator says which namespaces may, by the PciAlias' namespaceSelector and the namespace's labels";
                }
            }
        }

        return null;
    }

    /// <summary>What of a namespace decides what it may ask for.</summary>
    public static string Fingerprint(V1Namespace? ns) =>
        ns is null
            ? ""
            : string.Join(
                '|',
                (ns.Metadata.Labels ?? new Dictionary<string, string>())
                    .OrderBy(l => l.Key, StringComparer.Ordinal)
                    .Select(l => $"{l.Key}={l.Value}")
                    .Prepend(ns.Metadata.Uid)
            );
}
