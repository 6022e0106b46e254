using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using PciOperator.Sandbox.ApiServer.Resources;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>Server-side apply.</summary>
internal sealed class ApplyRequest(ApiCore core, ResourceType type, RequestPath path, WriteOptions options)
{
    public (JsonObject Object, bool Created) Run(byte[] body, HttpRequest request)
    {
        _ = (core, type, path, options, body, request);
        throw ApiError.UnsupportedMediaType("application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json");
    }
}
