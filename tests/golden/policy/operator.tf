resource "aws_iam_role_policy" "medley-operator_prod_medley-system_medley" {
  name   = "operator-policy"
  role   = aws_iam_role.medley-operator_prod_medley-system_medley.name
  policy = jsonencode({
    "Version" = "2012-10-17"
    "Statement" = [
      {
        "Sid" = "ReadNodegroups"
        "Effect" = "Allow"
        "Action" = [
          "eks:DescribeNodegroup",
        ]
        "Resource" = [
          "arn:aws:eks:us-east-1:111122223333:nodegroup/prod/gpu-l4/*",
          "arn:aws:eks:us-east-1:111122223333:nodegroup/prod/gpu-a10/*",
        ]
      },
      {
        "Sid" = "ReadAutoScalingGroups"
        "Effect" = "Allow"
        "Action" = [
          "autoscaling:DescribeAutoScalingGroups",
        ]
        "Resource" = "*"
        "Condition" = {
          "StringEquals" = {
            "aws:RequestedRegion" = "us-east-1"
          }
        }
      },
      {
        "Sid" = "ScalePool1"
        "Effect" = "Allow"
        "Action" = [
          "eks:UpdateNodegroupConfig",
        ]
        "Resource" = "arn:aws:eks:us-east-1:111122223333:nodegroup/prod/gpu-l4/*"
        "Condition" = {
          "StringEquals" = {
            "aws:ResourceTag/medley.dev/pool" = "l4"
          }
        }
      },
      {
        "Sid" = "ScalePool2"
        "Effect" = "Allow"
        "Action" = [
          "autoscaling:SetDesiredCapacity",
        ]
        "Resource" = "arn:aws:autoscaling:us-east-1:111122223333:autoScalingGroup:*:autoScalingGroupName/eks-a10"
        "Condition" = {
          "StringEquals" = {
            "aws:ResourceTag/eks:cluster-name" = "prod"
            "aws:ResourceTag/eks:nodegroup-name" = "gpu-a10"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role" "medley-operator_prod_medley-system_medley" {
  name               = "medley-operator_prod_medley-system_medley"
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
            "oidc.eks.us-east-1.amazonaws.com/id/ABC123:sub" = "system:serviceaccount:medley-system:medley"
            "oidc.eks.us-east-1.amazonaws.com/id/ABC123:aud" = "sts.amazonaws.com"
          }
        }
      },
    ]
  })
}
