using Microsoft.AspNetCore.Http;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>How objects are shown in an answer.</summary>
internal enum ObjectForm
{
    Whole,
    Table,
    PartialMetadata,
}

/// <summary>What a client accepts: the first of its media types that can be given.</summary>
internal readonly record struct AcceptedForm(ObjectForm Form, bool Yaml, string Parameters)
{
    public static AcceptedForm Of(HttpRequest request)
    {
        string accept = request.Headers.Accept.ToString();
        if (accept.Length == 0)
            return new AcceptedForm(ObjectForm.Whole, false, "");
        foreach (string range in accept.Split(','))
        {
            string[] parts = range.Split(';', StringSplitOptions.TrimEntries);
            if (parts[0] is not ("application/json" or "application/yaml" or "*/*" or "application/*"))
                continue;
            bool yaml = parts[0] == "application/yaml";
            string? kind = parts.FirstOrDefault(p => p.StartsWith("as=", StringComparison.Ordinal))?[3..];
            switch (kind)
            {
                case null:
                    return new AcceptedForm(ObjectForm.Whole, yaml, "");
                case "Table" when parts.Contains("g=meta.k8s.io"):
                    return new AcceptedForm(ObjectForm.Table, yaml, range.Trim());
                case "PartialObjectMetadata" or "PartialObjectMetadataList" when parts.Contains("g=meta.k8s.io"):
                    return new AcceptedForm(ObjectForm.PartialMetadata, yaml, range.Trim());
            }
        }

        throw ApiError.NotAcceptable();
    }

    /// <summary>Whether aggregated discovery, and which version of it, is accepted before anything else.</summary>
    public static bool WantsAggregatedDiscovery(HttpRequest request) =>
        request.Headers.Accept.ToString().Split(',').FirstOrDefault(r => r.Trim().StartsWith("application/json", StringComparison.Ordinal))
            is { } first
        && first.Contains("as=APIGroupDiscoveryList", StringComparison.Ordinal)
        && first.Contains("v=v2", StringComparison.Ordinal)
        && !first.Contains("v=v2beta1", StringComparison.Ordinal);
}
