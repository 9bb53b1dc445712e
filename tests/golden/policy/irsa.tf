resource "aws_iam_role_policy" "medley_prod_prod_chat" {
  name   = "pod-policy"
  role   = aws_iam_role.medley_prod_prod_chat.name
  policy = jsonencode({
    "Version" = "2012-10-17"
    "Statement" = [
      {
        "Sid" = "ReadModel"
        "Effect" = "Allow"
        "Action" = [
          "s3:GetObject",
        ]
        "Resource" = "arn:aws:s3:::models/llama/8b/*"
        "Condition" = {
          "StringEquals" = {
            "aws:ResourceAccount" = "111122223333"
            "aws:RequestedRegion" = "us-east-1"
          }
        }
      },
      {
        "Sid" = "UseCache"
        "Effect" = "Allow"
        "Action" = [
          "s3:GetObject",
          "s3:PutObject",
        ]
        "Resource" = "arn:aws:s3:::scratch/chat/*"
        "Condition" = {
          "StringEquals" = {
            "aws:ResourceAccount" = "111122223333"
            "aws:RequestedRegion" = "us-east-1"
          }
        }
      },
      {
        "Sid" = "ListFolders1"
        "Effect" = "Allow"
        "Action" = [
          "s3:ListBucket",
        ]
        "Resource" = "arn:aws:s3:::models"
        "Condition" = {
          "StringEquals" = {
            "aws:ResourceAccount" = "111122223333"
            "aws:RequestedRegion" = "us-east-1"
          }
          "StringLike" = {
            "s3:prefix" = [
              "llama/8b/*",
            ]
          }
        }
      },
      {
        "Sid" = "ListFolders2"
        "Effect" = "Allow"
        "Action" = [
          "s3:ListBucket",
        ]
        "Resource" = "arn:aws:s3:::scratch"
        "Condition" = {
          "StringEquals" = {
            "aws:ResourceAccount" = "111122223333"
            "aws:RequestedRegion" = "us-east-1"
          }
          "StringLike" = {
            "s3:prefix" = [
              "chat/*",
            ]
          }
        }
      },
      {
        "Sid" = "UseKeyThroughS3"
        "Effect" = "Allow"
        "Action" = [
          "kms:Decrypt",
          "kms:GenerateDataKey",
        ]
        "Resource" = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
        "Condition" = {
          "StringEquals" = {
            "kms:ViaService" = [
              "s3.us-east-1.amazonaws.com",
            ]
          }
        }
      },
    ]
  })
}

resource "aws_iam_role" "medley_prod_prod_chat" {
  name               = "medley_prod_prod_chat"
  assume_role_policy = jsonencode({
    "Version" = "2012-10-17"
    "Statement" = [
      {
        "Sid" = "OneServiceAccount"
        "Effect" = "Allow"
        "Principal" = {
          "Federated" = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.us-east-1.amazonaws.com/id/ABC123"
        }
        "Action" = "sts:AssumeRoleWithWebIdentity"
        "Condition" = {
          "StringEquals" = {
            "oidc.eks.us-east-1.amazonaws.com/id/ABC123:sub" = "system:serviceaccount:prod:chat-engine"
            "oidc.eks.us-east-1.amazonaws.com/id/ABC123:aud" = "sts.amazonaws.com"
          }
        }
      },
    ]
  })
}

# LLMService/prod/chat image-pull: attach it to the role of the nodes.
resource "aws_iam_policy" "image-pull_prod_chat" {
  name   = "image-pull_prod_chat"
  policy = jsonencode({
    "Version" = "2012-10-17"
    "Statement" = [
      {
        "Sid" = "LogInToRegistry"
        "Effect" = "Allow"
        "Action" = [
          "ecr:GetAuthorizationToken",
        ]
        "Resource" = "*"
        "Condition" = {
          "StringEquals" = {
            "aws:RequestedRegion" = "us-east-1"
          }
        }
      },
      {
        "Sid" = "PullImage"
        "Effect" = "Allow"
        "Action" = [
          "ecr:BatchCheckLayerAvailability",
          "ecr:BatchGetImage",
          "ecr:GetDownloadUrlForLayer",
        ]
        "Resource" = "arn:aws:ecr:us-east-1:111122223333:repository/vllm/openai"
      },
    ]
  })
}
